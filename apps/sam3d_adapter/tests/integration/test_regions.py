"""Label maps that come with a request, or were saved before, through MONAI Label's own endpoints; and their replay."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from lib.audit.replay import ReplayError, replay
from lib.volumes.mask_hash import mask_hash
from tests.support.live_app import LiveApp, check_refusal, live_app
from tests.support.noise_site import AFFINE, CLICK, SHAPE, copy_app, write_studies
from tests.support.small_app import small_preset
from tests.support.weights import write_click_unet

pytestmark = pytest.mark.timeout(300)

MASK = np.zeros(SHAPE, np.uint8)
MASK[20:30, 14:26, 8:16] = 1
MASK[2:6, 2:6, 2:6] = 4
MISSING = [32, 20, 12]
START = {"foreground": [MISSING], "start_value": 1}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApp]:
    """With a task whose weights read their previous answer."""
    folder = tmp_path_factory.mktemp("live")
    app_dir = copy_app(folder)
    write_click_unet(app_dir / "weights")
    (app_dir / "configs/unet.yaml").write_text(yaml.safe_dump(small_preset("unet")))
    with live_app(app_dir, write_studies(folder / "studies"), folder) as app:
        yield app


def packed(folder: Path, array: np.ndarray = MASK, affine: np.ndarray = AFFINE) -> bytes:
    path = folder / "packed.nii.gz"
    nib.save(nib.Nifti1Image(array, affine), path)
    return path.read_bytes()


def ask(live: LiveApp, params: dict[str, Any], label: bytes | None = None, **more: Any) -> dict[str, Any]:
    sent = None if label is None else ("mask of Mustermann.nii.gz", label)
    answer = live.infer(params, model="unet", label=sent, **more)
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


def save_label(live: LiveApp, content: bytes, tag: str, names: list[str]) -> None:
    info = [{"name": name, "idx": rank} for rank, name in enumerate(names, start=1)]
    answer = live.ask(
        "PUT",
        f"/datastore/label?image=case_1&tag={tag}",
        files={"label": ("label.nii.gz", content), "params": (None, json.dumps({"label_info": info}))},
    )
    assert answer.status_code == 200, answer.text


def records(live: LiveApp) -> list[dict[str, Any]]:
    files = sorted((live.folder / "app/logs/audit").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_an_uploaded_mask_is_started_from(live: LiveApp, tmp_path: Path) -> None:
    answer = ask(live, START, packed(tmp_path))
    own = MASK == 1
    assert answer["start_mask"] == {"from": "upload", "value": 1, "hash": mask_hash(own), "voxels": int(own.sum())}
    assert answer["mask_voxels"] > own.sum() and answer["warnings"] == []
    assert live.left_behind() == []


def test_a_saved_label_is_started_from_and_protects(live: LiveApp, tmp_path: Path) -> None:
    uploaded = ask(live, START, packed(tmp_path))
    save_label(live, packed(tmp_path), "final", ["lesion", "vessel"])
    saved = ask(live, {"foreground": [MISSING], "start_from": "label"})
    assert saved["start_mask"] == uploaded["start_mask"] | {"from": "label"}
    assert saved["mask_hash"] == uploaded["mask_hash"] and saved["decodes"] == 0
    both = ask(live, {"foreground": [MISSING], "start_from": "label", "protected": "label"})
    assert both["protected"] == {"from": "label", "except": 1, "hash": mask_hash(MASK == 4), "voxels": 64}
    # Under another tag, and with names that say nothing of the task's structure.
    save_label(live, packed(tmp_path), "second_reader", ["liver", "vessel"])
    other = {"foreground": [MISSING], "protected": "label", "read_tag": "second_reader"}
    assert ask(live, other)["protected"]["voxels"] == np.count_nonzero(MASK)
    refused = live.infer({**other, "foreground": [CLICK]}, model="unet")
    check_refusal(live, refused, 422, (str(CLICK), "protected", "protected_except"))


def test_a_mask_that_no_key_asks_for(live: LiveApp, tmp_path: Path) -> None:
    with_label = ask(live, {"foreground": [CLICK], "start_from": "none"}, packed(tmp_path))
    assert "had no effect" in with_label["warnings"][0] and with_label["start_mask"] is None
    assert with_label["mask_hash"] == ask(live, {"foreground": [CLICK]})["mask_hash"]


BAD: dict[str, tuple[dict[str, Any], int, tuple[str, ...]]] = {
    "path of an upload": ({**START, "uploaded_label": "/etc/passwd"}, 422, ("set by the server", "'label'")),
    "path of a saved one": ({**START, "saved_label": "/etc/passwd"}, 422, ("set by the server",)),
    "names of a saved one": ({**START, "saved_names": ["lesion"]}, 422, ("set by the server",)),
    "tag that is not there": ({**START, "start_from": "label", "read_tag": "third"}, 404, ("'third'", "read_tag")),
    "tag that is a path": ({**START, "start_from": "label", "read_tag": "../x"}, 422, ("read_tag", "plain name")),
    "nothing sent": ({**START, "start_from": "upload"}, 422, ("No mask came", "'label'")),
    "no click": ({"start_from": "upload", "start_value": 1}, 422, ("at least one click",)),
    "flat box": ({"roi": [1, 9, 1, 9, 5, 5]}, 422, ("without extent along k",)),
}


@pytest.mark.parametrize("case", BAD)
def test_refusals(live: LiveApp, tmp_path: Path, case: str) -> None:
    params, status, words = BAD[case]
    label = ("a.nii.gz", packed(tmp_path)) if case == "no click" else None
    check_refusal(live, live.infer(params, model="unet", label=label), status, words)


def test_label_maps_that_cannot_be_used(live: LiveApp, tmp_path: Path) -> None:
    far = AFFINE.copy()
    far[:3, 3] += 300
    whole = packed(tmp_path)
    for name, content, words in (
        ("a.nii.gz", whole[: len(whole) // 2], ("label map", "cannot be")),
        ("a.nii.gz", b"", ("label map",)),
        ("a.png", whole, ("a.png", ".nii.gz")),
        ("a.nii.gz", packed(tmp_path, affine=far), ("belongs to another image",)),
        ("a.nii.gz", packed(tmp_path, MASK * 0), ("start_value is 1", "no value above 0")),
        ("a.nii.gz", packed(tmp_path, MASK - 0.5), ("whole numbers",)),
    ):
        check_refusal(live, live.infer(START, model="unet", label=(name, content)), 422, words)
    assert live.left_behind() == []


def test_a_foreign_image_has_no_saved_label(live: LiveApp) -> None:
    content = (live.studies / "case_2.nii.gz").read_bytes()
    refused = live.infer({**START, "start_from": "label"}, model="unet", image="", file=("a.nii.gz", content))
    check_refusal(live, refused, 422, ("only images of this server",))


def test_the_record_names_the_mask_by_its_hash_and_replays_with_it(live: LiveApp, tmp_path: Path) -> None:
    answer = ask(
        live, {**START, "protected": "upload", "protected_except": 1, "start_from": "upload"}, packed(tmp_path)
    )
    record = records(live)[-1]
    assert record["id"] == answer["audit_id"]
    assert record["label_maps"] == {"start_mask": answer["start_mask"], "protected": answer["protected"]}
    assert "Mustermann" not in json.dumps(record) and str(live.folder) not in json.dumps(record)
    image, app = live.studies / "case_1.nii.gz", live.folder / "app"
    with pytest.raises(ReplayError, match=f"{answer['start_mask']['hash']}.*--uploaded-label"):
        replay(record, image, app)
    file = tmp_path / "packed.nii.gz"
    again = replay(record, image, app, label_maps={"upload": file})
    assert again.is_equal
    packed(tmp_path, np.roll(MASK, 1, axis=0))
    with pytest.raises(ReplayError, match="not the record's label map"):
        replay(record, image, app, label_maps={"upload": file})


def test_a_record_of_a_box_replays(live: LiveApp) -> None:
    answer = ask(live, {"roi": [40, 12, 8, 30, 4, 20]})
    assert answer["box"] == [[12, 8, 4], [40, 30, 20]] and answer["implied_click"] == [26, 19, 12]
    again = replay(records(live)[-1], live.studies / "case_1.nii.gz", live.folder / "app")
    assert again.is_equal
