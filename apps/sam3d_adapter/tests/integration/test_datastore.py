"""The data store as viewers and scripts use it, and as an attacker would, through the real application."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
import SimpleITK as sitk
from monailabel.client import MONAILabelClient

from tests.support.hostile_images import nifti, nrrd, packed, voxels
from tests.support.live_app import LiveApp, check_refusal
from tests.support.noise_site import AFFINE, CLICK, SHAPE

pytestmark = [
    pytest.mark.timeout(300),
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
    # MONAI Label's client leaves its connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]

LESION = np.zeros(SHAPE, np.uint8)
LESION[20:28, 16:24, 10:14] = 1
LABEL = packed(nifti(LESION))
SEGMENTS = {"label_info": [{"name": "lesion", "idx": 1}], "model": "test"}
OUTSIDE = (
    "../case_1", "../../case_1", "..%2Fcase_1", "/etc/passwd", "..", ".", "", "a/b", "..\\case_1", "case_1/", "%00",
    "case_1%00", "labels/final/case_1", "../studies/case_1", "x" * 3000,
)  # fmt: skip


@pytest.fixture
def client(live: LiveApp, tmp_path: Path) -> MONAILabelClient:
    """MONAI Label's own, as 3D Slicer has it."""
    return MONAILabelClient(live.url, tmpdir=str(tmp_path))


@pytest.fixture(autouse=True)
def _clean(live: LiveApp) -> Iterator[None]:
    yield
    assert live.left_behind() == []


def put_image(live: LiveApp, image: str, content: bytes, name: str = "x.nii.gz") -> requests.Response:
    files = {"file": (name, content)}
    return requests.put(f"{live.url}/datastore/image", params={"image": image}, files=files, timeout=60)


def put_label(
    live: LiveApp, content: bytes, name: str = "x.nii.gz", image: str = "case_1", tag: str = "final", params: str = "{}"
) -> requests.Response:
    return requests.put(
        f"{live.url}/datastore/label",
        params={"image": image, "tag": tag},
        data={"params": params},
        files={"label": (name, content)},
        timeout=60,
    )


def get_label(live: LiveApp, image: str = "case_1", tag: str = "final") -> bytes | None:
    answer = live.ask("GET", f"/datastore/label?label={image}&tag={tag}")
    return answer.content if answer.status_code == 200 else None


def remove_image(live: LiveApp, image: str) -> None:
    """The list of images follows the folder after a while."""
    answer = requests.delete(f"{live.url}/datastore/image", params={"id": image}, timeout=60)
    assert answer.status_code == 200, answer.text
    for _ in range(100):
        if image not in live.ask("GET", "/datastore/?output=all").json()["objects"]:
            return
        time.sleep(0.05)
    pytest.fail("the image is still listed")


def test_image_is_stored_clicked_on_and_removed(live: LiveApp, good_mask: str) -> None:
    content = (live.studies / "case_1.nii.gz").read_bytes()
    answer = put_image(live, "Erika Müller (3)", content)
    assert answer.json() == {"image": "Erika Müller (3)"}, answer.text
    assert (live.studies / "Erika Müller (3).nii.gz").read_bytes() == content
    click = live.infer({"foreground": [CLICK]}, image="Erika Müller (3)")
    assert click.status_code == 200 and click.json()["encodes"] == 0  # the same voxels
    assert put_label(live, LABEL, image="Erika Müller (3)").status_code == 200
    assert requests.delete(f"{live.url}/datastore/image", params={"id": "Erika Müller (3)"}).status_code == 200
    assert not [path for path in live.studies.rglob("Erika*") if "label_history" not in path.parts]
    # At once, though the list of images lags behind.
    assert put_image(live, "Erika Müller (3)", packed(nifti(voxels()))).status_code == 200
    remove_image(live, "Erika Müller (3)")
    assert live.good_click() == good_mask


@pytest.mark.parametrize(
    ("name", "image", "suffix"),
    [
        ("1.2.840.113619.2.nii.gz", "1.2.840.113619.2", ".nii.gz"),
        ("A.NII", "A", ".nii"),
        ("C:\\data\\a b.nrrd", "a b", ".nrrd"),
        ("../../x.nii", "x", ".nii"),
    ],
)
def test_id_is_the_name_of_the_file(live: LiveApp, name: str, image: str, suffix: str) -> None:
    good = nrrd(voxels()) if suffix == ".nrrd" else nifti(voxels())
    content = packed(good) if suffix == ".nii.gz" else good
    before = set(live.files())
    answer = put_image(live, "", content, name)
    assert answer.json() == {"image": image}, answer.text
    (new,) = set(live.files()) - before - {"studies/datastore_v2.json"}
    assert new == f"studies/{image}{suffix}"
    remove_image(live, image)


def test_image_of_slicer(live: LiveApp, client: MONAILabelClient, tmp_path: Path) -> None:
    (tmp_path / "tmpqx3a.nii.gz").write_bytes(packed(nifti(voxels())))
    for _ in range(2):  # the same once more is no harm
        assert client.upload_image(str(tmp_path / "tmpqx3a.nii.gz"), "MRHead")["image"] == "MRHead"
    remove_image(live, "MRHead")


def test_image_that_is_there_keeps_its_voxels_and_labels(live: LiveApp, good_mask: str) -> None:
    assert put_label(live, LABEL).status_code == 200
    before = live.files()
    check_refusal(live, put_image(live, "case_1", packed(nifti(voxels()))), 409, ("case_1", "another id"))
    check_refusal(live, put_image(live, "case_1", nifti(voxels()), "x.nii"), 409)  # beside it, it would be the same id
    for broken in (b"", b"zz", packed(nifti(voxels()))[:3000]):
        check_refusal(live, put_image(live, "case_1", broken), 422)
    assert put_image(live, "case_1", (live.studies / "case_1.nii.gz").read_bytes()).status_code == 200
    assert live.files() == before and get_label(live) == LABEL
    assert live.good_click() == good_mask


@pytest.mark.parametrize("image", [name for name in OUTSIDE if name])
def test_image_under_a_name_of_elsewhere(live: LiveApp, good_mask: str, image: str) -> None:
    before = live.files()
    answer = put_image(live, requests.utils.unquote(image), packed(nifti(voxels())))
    # What is encoded twice is a name like any other, but for the file system.
    check_refusal(live, answer, 422, ("image id",))
    assert live.files() == before
    assert live.good_click() == good_mask


@pytest.mark.parametrize("name", ["", "/", "..", "a.zip", "a.dcm", ".nii.gz", " .nii", "a\x00.nii", "x" * 900 + ".nii"])
def test_file_names_that_give_no_id(live: LiveApp, name: str) -> None:
    before = live.files()
    answer = put_image(live, "", nifti(voxels()), name)
    assert answer.status_code in (400, 422) and isinstance(answer.json()["detail"], str), answer.text
    assert live.files() == before


def test_image_that_no_click_can_be_placed_on(live: LiveApp) -> None:
    check_refusal(live, put_image(live, "new", packed(nifti(voxels((8, 8, 8, 2))))), 422, ("4 axes",))
    check_refusal(live, put_image(live, "new", packed(nifti(voxels(), AFFINE * 0))), 422, ("position",))


@pytest.mark.parametrize("address", OUTSIDE)
def test_no_address_reaches_what_is_elsewhere(live: LiveApp, good_mask: str, address: str) -> None:
    put_label(live, LABEL)
    (live.folder / "case_1.nii.gz").write_bytes(b"of others")
    before = live.files()
    for method, path in (
        ("GET", "image?image={}"), ("HEAD", "image?image={}"), ("DELETE", "image?id={}"), ("DELETE", "?id={}"),
        ("GET", "image/info?image={}"), ("PUT", "image/info?image={}"), ("GET", "label?label={}&tag=final"),
        ("HEAD", "label?image={}&tag=final"), ("DELETE", "label?id={}&tag=final"), ("PUT", "label?image={}&tag=final"),
        ("GET", "label/info?label={}&tag=final"), ("PUT", "label/info?label={}&tag=final"),
        ("GET", "label?label=case_1&tag={}"), ("HEAD", "label?image=case_1&tag={}"),
        ("DELETE", "label?id=case_1&tag={}"), ("PUT", "label/info?label=case_1&tag={}"),
        ("PUT", "updatelabelinfo?label=case_1&tag={}"),
    ):  # fmt: skip
        files = {"label": ("x.nii.gz", LABEL)} if path.startswith("label?") and method == "PUT" else None
        answer = live.ask(method, f"/datastore/{path.format(address)}", files=files)
        assert answer.status_code == 404, (method, path, answer.text)
    assert live.files() == before
    assert live.good_click() == good_mask


def test_label_of_slicer(live: LiveApp, client: MONAILabelClient, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(LESION.transpose())
    for name in ("tmpa.nii.gz", "tmpb.nrrd", "tmpc.seg.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name), True)
        answer = client.save_label("case_2", str(tmp_path / name), params=SEGMENTS)
        assert answer["image"] == answer["label"] == "case_2"
        saved = client.download_label("case_2", "final")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(saved)), LESION.transpose())
    stored = live.ask("GET", "/datastore/label/info?label=case_2&tag=final").json()
    assert stored["label_info"] == SEGMENTS["label_info"]
    pairs = [pair["label"] for pair in live.ask("GET", "/datastore/?output=train").json()]
    assert str(live.studies / "labels/final/case_2.nrrd") in pairs
    archive = live.ask("GET", "/datastore/dataset")
    assert archive.status_code == 200 and archive.content[:2] == b"PK"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_label_of_any_type(live: LiveApp, dtype: type) -> None:
    assert put_label(live, packed(nifti((LESION * 3).astype(dtype)))).status_code == 200
    saved = nib.Nifti1Image.from_bytes(__import__("gzip").decompress(get_label(live) or b""))
    np.testing.assert_array_equal(np.asarray(saved.dataobj), LESION * 3)


def test_label_on_another_grid_is_placed(live: LiveApp) -> None:
    coarser = np.array([[2.0, 0, 0, 0], [0, 1, 0, 4], [0, 0, 1, 0], [0, 0, 0, 1]])
    answer = put_label(live, packed(nifti(LESION[::2, 4:, :], AFFINE @ coarser)))
    assert answer.status_code == 200 and "24 x 36 x 24" in answer.json()["warnings"][0], answer.text


def test_label_of_before_stays(live: LiveApp, good_mask: str) -> None:
    assert put_label(live, LABEL, params=json.dumps(SEGMENTS)).status_code == 200
    before = live.files()
    half = nifti(LESION.astype(np.float32) / 2)
    nan = nifti(np.where(LESION, np.nan, 0).astype(np.float32))
    for content, name in (
        (b"", "x.nii.gz"), (b"zz", "x.nii.gz"), (LABEL[:-300], "x.nii.gz"), (b"NRRD0004\n", "x.nrrd"),
        (packed(half), "x.nii.gz"), (nan, "x.nii"), (nifti(voxels()), "x.nii"), (LABEL, "x.png"), (LABEL, "x"),
        (LESION.tobytes(), "label.bin"), (nrrd(LESION, fields="data file: /etc/passwd\n"), "x.nrrd"),
        (nifti(LESION, dim=[3, 9000, 9000, 9000]), "x.nii"), (nifti(LESION[:, :, :1]), "x.nii"),
    ):  # fmt: skip
        check_refusal(live, put_label(live, content, name), 422)
    for params in ("[", "3", '{"a": NaN}', '{"label_info": [3]}', '{"label_info": [{"name": 3}]}', '{"a": 1, "a": 2}'):
        check_refusal(live, put_label(live, LABEL, params=params), 422)
    for color in ("red", [1, 2], [1, 2, "3"], None):
        wrong = json.dumps({"label_info": [{"name": "a", "color": color}]})
        check_refusal(live, put_label(live, LABEL, params=wrong), 422, ("label_info",))
    for tag in ("../x", "a/b", ".hidden", "x" * 65, "ä", "a\nb"):
        check_refusal(live, put_label(live, LABEL, tag=tag), 422, ("tag",))
    assert live.files() == before and get_label(live) == LABEL
    assert live.good_click() == good_mask


def test_labels_by_tag(live: LiveApp) -> None:
    assert put_label(live, LABEL, tag="round-2_b.1").status_code == 200
    assert get_label(live, tag="round-2_b.1") == LABEL
    assert put_label(live, LABEL, tag="").status_code == 200  # the host's default
    assert get_label(live) == LABEL
    assert live.ask("HEAD", "/datastore/label?image=case_1&tag=final").status_code == 200
    assert live.ask("DELETE", "/datastore/label?id=case_1&tag=round-2_b.1").status_code == 200
    assert not list(live.studies.glob("labels/round*/*"))


def test_descriptions(live: LiveApp) -> None:
    put_label(live, LABEL)
    for kind in ("image/info?image=case_1", "label/info?label=case_1&tag=final"):
        served = {"random": {"ts": int(time.time()), "client_id": "a"}}
        written = {"reader": "Müller", "strategy": served}
        answer = live.ask("PUT", f"/datastore/{kind}", data={"info": json.dumps(written)})
        assert answer.status_code == 200, answer.text
        assert live.ask("GET", f"/datastore/{kind}").json().items() >= written.items()
        check_refusal(live, live.ask("PUT", f"/datastore/{kind}", data={"info": '{"x": -Infinity}'}), 422)
        check_refusal(live, live.ask("PUT", f"/datastore/{kind}", data={"info": "x" * 300_000}), 413)
    for future in (1e15, -1, True, None, "now", [1]):
        info = json.dumps({"strategy": {"random": {"ts": future}}})
        answer = live.ask("PUT", "/datastore/image/info?image=case_1", data={"info": info})
        check_refusal(live, answer, 422, ("strategy",))
    assert live.ask("POST", "/activelearning/random", json={"client_id": "user-xyz"}).status_code == 200


def test_next_sample_of_clients(live: LiveApp, client: MONAILabelClient) -> None:
    shown = live.studies / "label_history/.workflow.sqlite"
    shown.unlink(missing_ok=True)
    assert client.next_sample("random", {})["path"].startswith(str(live.studies))  # its client_id is null
    for body in ({"client_id": "user-xyz"}, {}, None):
        shown.unlink()  # or what one was shown would be kept from the others
        assert live.ask("POST", "/activelearning/random", json=body).json()["id"]


def test_log_reads_no_other_file(live: LiveApp) -> None:
    logs = live.folder / "app/logs"
    logs.mkdir(exist_ok=True)
    (logs / "app.log").write_text("".join(f"line {number}\n" for number in range(20)))
    (logs / "other.log").write_text("secret\n")
    for query in ("logfile=other.log", "file=..%2F..%2Fsecret", "logger_file=other.log", "path=other.log", "lines=-1"):
        answer = live.ask("GET", f"/logs/?text=true&{query}")
        assert answer.status_code == 200 and answer.text.startswith("line 0") and "secret" not in answer.text
    for path in ("/logs/other.log", "/logs/..%2Fmain.py", "/logs/%2e%2e/main.py", "/logs/../main.py", "/logs/app.log"):
        assert live.ask("GET", path).status_code == 404
    assert live.ask("GET", "/logs/?text=true&lines=2").text == "line 18\nline 19\n"
    assert "other.log" not in live.ask("GET", "/logs/?html=true").text
    (logs / "app.log").unlink()
    check_refusal(live, live.ask("GET", "/logs/"), 404, ("log",))


def test_viewer_of_the_server_sends_its_own_files_alone(live: LiveApp) -> None:
    page = live.ask("GET", "/ohif/").content
    # It asks no third party, not even for a font.
    assert b"https://" not in page.replace(b"http://www.w3.org", b"")
    for path in ("..", "%2e%2e", "..%2f..%2fapp.py", "%2Fetc%2Fpasswd", "assets", "%00", "x" * 3000):
        assert live.ask("GET", f"/ohif/{path}").content == page
    assert live.ask("GET", "/ohif/app-config.js").content != page
    assert live.ask("GET", "/static/..%2f..%2fapp.py").status_code == 404


def test_the_viewer_registers_the_panel_and_gets_its_files_alone(live: LiveApp) -> None:
    config = live.ask("GET", "/ohif/app-config.js")
    assert config.text.startswith("window.config = {") and "sam3d/extension.mjs" in config.text
    for path, kind in (("extension.mjs", "text/javascript"), ("views/panel.mjs", "text/javascript"),
                       ("panel.css", "text/css")):  # fmt: skip
        answer = live.ask("GET", f"/ohif/sam3d/{path}")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        assert answer.headers["cache-control"] == "no-cache"
    for path in (
        "",
        "views",
        "none.mjs",
        "..%2fmain.py",
        "..%2flib%2fversion.py",
        "%00",
        "x" * 3000 + ".mjs",
        "../app.py",
    ):
        answer = live.ask("GET", f"/ohif/sam3d/{path}")
        assert answer.status_code == 404 or answer.content == live.ask("GET", "/ohif/").content


def test_weights_stay(live: LiveApp, good_mask: str) -> None:
    for method in ("GET", "DELETE"):
        for model in ("test", "nope", "%2e%2e", "..%2fx"):
            assert live.ask(method, f"/model/{model}").status_code == 404
    weights = {"file": ("x.pt", io.BytesIO(b"x"))}
    check_refusal(live, live.ask("PUT", "/model/test", files=weights), 403, ("configs",))
    assert live.good_click() == good_mask


def test_tasks_that_are_none_say_which_there_are(live: LiveApp) -> None:
    # Other applications of this process may have had some.
    statuses = [f"/{kind}?all=true" for kind in ("train/", "scoring/", "batch/infer")]
    before = [live.ask("GET", status).text for status in statuses]
    check_refusal(live, live.ask("POST", "/activelearning/nope", json={}), 404, ("'nope'", "random"))
    check_refusal(live, live.ask("POST", "/train/nope", json={}), 404, ("trainer", "choose from"))
    check_refusal(live, live.ask("POST", "/scoring/nope", json={}), 404, ("scoring",))
    check_refusal(live, live.ask("POST", "/batch/infer/nope", json={}), 404, ("'nope'", "test"))
    assert [live.ask("GET", status).text for status in statuses] == before  # no process was started
    for body in ([1], "x", 3):
        check_refusal(live, live.ask("POST", "/activelearning/random", json=body), 422, ("dictionary",))
    check_refusal(live, live.ask("POST", "/batch/infer/test?images=some", json={}), 422, ("'some'", "unlabeled"))
    check_refusal(live, live.ask("POST", "/train/nope?run_sync=perhaps", json={}), 422, ("'perhaps'",))


def test_mends_are_there_after_a_reload(live: LiveApp, good_mask: str) -> None:
    assert live.ask("POST", "/reload").status_code == 200
    assert live.ask("GET", "/info/").status_code == 200  # now the app is there again, and has looked at its images
    before = live.files()
    check_refusal(live, put_image(live, "../evil", packed(nifti(voxels()))), 422)
    check_refusal(live, put_label(live, LABEL, tag="../../evil"), 422)
    check_refusal(live, live.ask("POST", "/activelearning/nope", json={}), 404, ("random",))
    check_refusal(live, live.ask("POST", "/infer/wsi_v2/test"), 404, ("pathology",))
    assert live.files() == before
    assert live.good_click() == good_mask
