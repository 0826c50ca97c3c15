"""The real server, started as a user starts it, clicked through MONAI Label's own client."""

import http.client
import json
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException
from scipy.ndimage import binary_erosion

from lib.host.process.launch import LaunchError, RunningServer, running_server
from lib.models.config import MODEL_SIZES
from lib.version import __version__
from tests.support.noise_site import AFFINE, CLICK, SECOND_CLICK, SHAPE, copy_app, write_studies

pytestmark = [
    pytest.mark.timeout(300),
    # MONAI Label's client closes neither its connections nor the files it uploads.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
]


@dataclass(frozen=True)
class Site:
    """A running server and the folders it works on."""

    server: RunningServer
    studies: Path
    folder: Path

    @property
    def client(self) -> MONAILabelClient:
        return MONAILabelClient(self.server.url, tmpdir=str(self.folder))

    def click(self, *clicks: list[int], model: str = "test", image: str = "case_1", **more: Any) -> tuple[Any, dict]:
        """The answered mask as a nibabel image, and the JSON."""
        params = {"foreground": [list(c) for c in clicks], "background": [], "result_extension": ".nii.gz"} | more
        file, answer = self.client.infer(model, image, params)
        return nib.load(file), answer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    app, studies = copy_app(folder), write_studies(folder / "studies")
    (folder / "tmp").mkdir()
    env = {
        "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "TMPDIR": str(folder / "tmp"),
        # Whatever wants the network fails at once.
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "127.0.0.1",
    }
    with running_server(app, studies, log_path=folder / "server.log", env=env) as server:
        yield Site(server, studies, folder)


def refusal(site: Site, **arguments: Any) -> tuple[int, str]:
    """Status and detail of a request that must be refused."""
    with pytest.raises(MONAILabelClientException) as caught:
        site.client.infer(**{"model": "test", "image_id": "case_1", "params": {"foreground": [CLICK]}} | arguments)
    found = re.match(r"Status: (\d+); Response: (.*)", str(caught.value.msg), re.DOTALL)
    assert found, caught.value.msg
    return int(found[1]), str(json.loads(found[2])["detail"])


def test_info_lists_every_preset_for_every_viewer(site: Site) -> None:
    info = site.client.info()
    assert info["version"] == __version__
    assert "Research use only; not a medical device." in info["description"]
    assert "config" not in info  # Slicer would ask to upgrade the server
    ours = {"ct", "ct_lesion", "mr", "pet", "kits", "lits", "pancreas", "colon"}
    sam2 = {"sam2_tiny", "sam2_small", "sam2_base_plus", "sam2_large", "sam2_micro", "medsam2"}
    assert set(info["models"]) == {*ours, *sam2, "test", "torn", "proposal"}
    # For viewers that ask without prompts.
    proposal = info["models"].pop("proposal")
    assert proposal["type"] == "segmentation" and set(proposal["labels"]) == set(info["labels"])
    assert {"lesion", "kidney tumor", "liver tumor", "pancreas tumor", "colon tumor"} == set(info["labels"])
    for model in info["models"].values():
        assert (model["type"], model["dimension"]) == ("deepgrow", 3)
        assert list(model["labels"].values()) == [1]
        assert isinstance(model["description"], str)
        assert not {"label", "foreground", "background"} & set(model["config"])
    assert "random" in info["strategies"]


def test_task_without_weights_is_listed_with_the_reason(site: Site) -> None:
    models = site.client.info()["models"]
    assert "missing: sam_vit_b.safetensors, kits.safetensors" in models["kits"]["description"]
    assert "not available" not in models["test"]["description"]


def test_click_answers_a_mask_on_the_grid_of_the_image(site: Site) -> None:
    mask, answer = site.click(CLICK)
    assert mask.shape == SHAPE
    np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-4)
    values = np.asarray(mask.dataobj)
    assert values.dtype == np.uint8 and set(np.unique(values)) <= {0, 1}
    assert answer["mask_voxels"] == int(values.sum())
    assert answer["label"] == "lesion" and answer["label_names"] == {"lesion": 1}
    assert answer["preset"] == "test" and answer["clicks"] == [CLICK]
    assert re.fullmatch(r"[0-9a-f]{64}", answer["model_version"])
    size = MODEL_SIZES["test"].roi_size
    assert answer["roi"]["size_dhw"] == [size] * 3 and answer["roi"]["spacing_mm"] == 1.0
    assert answer["roi"]["centre_ijk"] == CLICK
    assert answer["roi"]["centre_ras_mm"] == pytest.approx((AFFINE @ [*CLICK, 1])[:3].tolist())
    assert set(answer["latency_ms"]) == {
        "weights", "load", "resample", "encode", "decode", "paste", "write", "total",
    }  # fmt: skip


def test_mask_stays_inside_the_roi(site: Site) -> None:
    mask, answer = site.click(CLICK)
    marked = np.argwhere(np.asarray(mask.dataobj))
    half_mm = MODEL_SIZES["test"].roi_size / 2 + 0.5
    spacing = np.linalg.norm(AFFINE[:3, :3], axis=0)
    distance_mm = np.abs(marked - np.asarray(answer["roi"]["centre_ijk"])) * spacing
    assert (distance_mm <= half_mm).all()


def test_second_click_inside_the_roi_decodes_only(site: Site) -> None:
    _, first = site.click(CLICK, image="case_2")
    _, second = site.click(CLICK, SECOND_CLICK, image="case_2")
    assert (first["encodes"], second["encodes"]) == (1, 0)
    assert second["roi"] == first["roi"]
    assert second["latency_ms"]["encode"] == 0 < first["latency_ms"]["encode"]
    before = first["latency_ms"]["resample"] + first["latency_ms"]["encode"]
    assert second["latency_ms"]["resample"] + second["latency_ms"]["encode"] < before


def test_answer_depends_on_the_request_alone(site: Site) -> None:
    first, _ = site.click(CLICK, image="case_2")
    both, _ = site.click(CLICK, SECOND_CLICK, image="case_2")
    again, _ = site.click(CLICK, image="case_2")
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(first.dataobj))


def test_both_kinds_of_clicks_are_obeyed(site: Site) -> None:
    plain, _ = site.click(CLICK)
    there = np.argwhere(binary_erosion(np.asarray(plain.dataobj), iterations=2))
    leak = there[np.abs(there - CLICK).sum(1).argmax()].tolist()
    mask, answer = site.click(CLICK, background=[leak])
    voxels = np.asarray(mask.dataobj)
    assert voxels[tuple(CLICK)] == 1 and voxels[tuple(leak)] == 0
    assert answer["background_clicks"] == [leak] and answer["obeyed_by_network"][1] is False


def test_a_threshold_that_nothing_reaches_leaves_what_the_click_is_one_with(site: Site) -> None:
    mask, answer = site.click(CLICK, threshold=0.999)
    assert np.asarray(mask.dataobj)[tuple(CLICK)] == 1 and answer["obeyed_by_network"] == [False]


@pytest.mark.parametrize("extension", [".nrrd", ".nii", ".nii.gz", None])
def test_answer_has_the_extension_asked_for(site: Site, extension: str | None) -> None:
    file, _ = site.client.infer("test", "case_1", {"foreground": [CLICK], "result_extension": extension})
    assert file.endswith(extension or ".nrrd")


def test_what_viewers_send_besides_is_ignored(site: Site) -> None:
    plain, _ = site.click(CLICK)
    more = {
        "label": "lesion", "roi": [], "reset_state": True, "slice": 3, "skip_writer": True,
        "logging": "nonsense", "pred": [1], "embedding": "x", "warnings": 3, "result_dtype": "uint8",
        "restore_label_idx": False, "result_compress": False, "description": "x",
    }  # fmt: skip
    mask, _ = site.click(CLICK, **more)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(plain.dataobj))


def test_uploaded_file_and_session(site: Site) -> None:
    plain, _ = site.click(CLICK)
    path = site.folder / "post from.mitk.nii.gz"
    shutil.copy(site.studies / "case_1.nii.gz", path)
    file, answer = site.client.infer("test", "", {"foreground": [CLICK]}, file=str(path))
    assert file.endswith(".nii.gz")  # MITK reads it by the name of what it sent
    np.testing.assert_array_equal(np.asarray(nib.load(file).dataobj), np.asarray(plain.dataobj))
    assert answer["encodes"] == 0  # the cache knows the content, not the path
    session = site.client.create_session(str(path))["session_id"]
    params = {"foreground": [CLICK], "result_extension": ".nii.gz"}
    file, _ = site.client.infer("test", "", params, session_id=session)
    np.testing.assert_array_equal(np.asarray(nib.load(file).dataobj), np.asarray(plain.dataobj))


# (arguments of the client's infer, status, words of the detail)
REFUSED: dict[str, tuple[dict, int, list[str]]] = {
    "unknown image": ({"image_id": "case_9"}, 404, ["case_9"]),
    "path as image": ({"image_id": "/etc/hostname"}, 404, ["no image"]),
    "path in params": ({"params": {"foreground": [CLICK], "image": "/etc/hostname"}}, 422, ["image", "address"]),
    "ended session": ({"image_id": "", "session_id": "no-such-session"}, 404, ["session"]),
    "unknown model": ({"model": "nonsense"}, 404, ["nonsense", "ct"]),
    "tag outside": ({"params": {"foreground": [CLICK], "label_tag": "../x"}}, 422, ["label_tag"]),
    "no click": ({"params": {"foreground": []}}, 422, ["lick"]),
    "keys absent": ({"params": {}}, 422, ["lick"]),
    "background only": ({"params": {"foreground": [], "background": [CLICK]}}, 422, ["lick"]),
    "outside the image": ({"params": {"foreground": [[24, 20, 24]]}}, 422, ["24"]),
    "negative": ({"params": {"foreground": [[-1, 0, 0]]}}, 422, ["-1"]),
    "no triple": ({"params": {"foreground": [[1, 2]]}}, 422, ["lick"]),
    "text as click": ({"params": {"foreground": "here"}}, 422, ["lick"]),
    "threshold": ({"params": {"foreground": [CLICK], "threshold": 2}}, 422, ["threshold"]),
    "device": ({"params": {"foreground": [CLICK], "device": "cuda:7"}}, 422, ["device", "cpu"]),
    "extension": ({"params": {"foreground": [CLICK], "result_extension": ".png"}}, 422, [".nrrd"]),
    "4-D image": ({"image_id": "four_d", "params": {"foreground": [[1, 1, 1]]}}, 422, ["4"]),
    "no weights": (
        {"model": "kits"},
        503,
        ["sam_vit_b_01ec64.pth", "https://", "sha256", "kits.safetensors", "sam3d convert"],
    ),
    "torn weights": ({"model": "torn"}, 503, ["torn.safetensors"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_why(site: Site, case: str) -> None:
    arguments, status, words = REFUSED[case]
    found, detail = refusal(site, **arguments)
    assert found == status, detail
    for word in words:
        assert word in detail
    # The server is none the worse for it.
    assert site.click(CLICK)[1]["preset"] == "test"


def test_nothing_is_left_in_the_temporary_folder(site: Site) -> None:
    site.click(CLICK)
    refusal(site, params={"foreground": [[-1, 0, 0]]})
    for _ in range(50):
        left = [path.name for path in (site.folder / "tmp").rglob("tmp*.n*")]
        if not left:
            return
        time.sleep(0.1)
    assert left == []


def test_next_sample(site: Site) -> None:
    assert site.client.next_sample("random", {})["id"] in ("case_1", "case_2", "four_d")


def test_weights_cannot_be_replaced_through_the_server(site: Site) -> None:
    connection = http.client.HTTPConnection(site.server.url.removeprefix("http://"))
    connection.request("DELETE", "/model/test")
    assert connection.getresponse().status == 404
    connection.close()
    assert site.click(CLICK)


@pytest.mark.slow
def test_background_task_runs_no_code_of_the_caller(site: Site) -> None:
    """A planted sitecustomize.py would run when the task's process starts."""
    planted, proof = site.folder / "planted", site.folder / "proof"
    planted.mkdir()
    (planted / "sitecustomize.py").write_text(f"open({str(proof)!r}, 'w').close()\n")
    body = json.dumps({"bundle_path": str(planted), "multi_gpu": False, "max_workers": 1}).encode()
    request = urllib.request.Request(
        f"{site.server.url}/batch/infer/test", data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    for _ in range(600):
        with urllib.request.urlopen(f"{site.server.url}/batch/infer") as answer:
            state = json.load(answer)["status"]
        if state in ("DONE", "ERROR"):
            break
        time.sleep(0.2)
    assert state == "ERROR"  # there is no click
    assert not proof.exists()


@pytest.mark.slow
def test_unknown_preset_ends_the_start_with_the_choices(tmp_path: Path) -> None:
    app = copy_app(tmp_path)
    (tmp_path / "studies").mkdir()
    with (
        pytest.raises(LaunchError, match="Unknown preset nonsense; choose from: colon, ct"),
        running_server(app, tmp_path / "studies", log_path=tmp_path / "log", conf={"models": "ct,nonsense"}),
    ):
        pass
