"""What a submitted label may hold, through the real application: taken with a sentence, or refused with one."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from monailabel.interfaces.utils.app import app_instance

from lib.host.patches.save_label import save_mask
from tests.support.hostile_images import packed
from tests.support.live_app import LiveApp, check_refusal
from tests.support.noise_site import AFFINE, SHAPE

pytestmark = [
    pytest.mark.timeout(300),
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
]

LESIONS = np.zeros(SHAPE, np.uint8)
LESIONS[20:28, 16:24, 10:14] = 1
LESIONS[4:9, 4:9, 4:8] = 2


def _shift_k() -> np.ndarray:
    """To where a flip along k begins."""
    matrix = np.eye(4)
    matrix[2, 3] = 1 - SHAPE[2]
    return matrix


ONE = (LESIONS == 1).astype(np.uint8)


def names(*named: str) -> list[dict[str, Any]]:
    return [{"name": name, "idx": number} for number, name in enumerate(named, start=1)]


def put(
    live: LiveApp, voxels: np.ndarray, info: object = None, affine: np.ndarray = AFFINE, **query: str
) -> requests.Response:
    params = json.dumps({} if info is None else {"label_info": info})
    return requests.put(
        f"{live.url}/datastore/label",
        params={"image": "case_1", "tag": "final", **query},
        data={"params": params},
        files={"label": ("x.nii.gz", packed(nib.Nifti1Image(voxels, affine).to_bytes()))},
        timeout=60,
    )


def kept(live: LiveApp) -> bytes:
    file = live.studies / "labels/final/case_1.nii.gz"
    return file.read_bytes() if file.is_file() else b""


@pytest.fixture(autouse=True)
def _clean(live: LiveApp) -> Any:
    yield
    live.ask("DELETE", "/datastore/label?id=case_1&tag=final")
    app_instance().datastore().refresh()


def moved(*voxels: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = voxels
    return AFFINE @ matrix


@pytest.mark.parametrize(
    ("voxels", "info", "affine", "words"),
    [
        (ONE, None, moved(100, 0, 0), ("beside its image", "nothing of voxel value 1", "Draw on the image")),
        (ONE, names("lesion"), moved(-25.5, 0, 0), ("beside its image", "%")),
        (LESIONS, names("lesion", "cyst"), moved(0, -20, 0), ("nothing of voxel value 2",)),
        (ONE[::2, ::2], None, np.diag([-9.0, 9, 9, 1]), ("beside its image",)),
        (LESIONS, None, AFFINE, ("2 voxel values 1, 2 have no names", "label_info")),
        (LESIONS, names("lesion"), AFFINE, ("do not fit the names",)),
        (LESIONS, [{"name": "a", "idx": 1}, {"name": "b", "idx": 1}], AFFINE, ("idx 1 to several",)),
        (LESIONS, [{"name": "a", "idx": 2}, {"name": "b", "idx": 1}], AFFINE, ("another order",)),
        (ONE * 2, [{"name": "a", "idx": 2}, {"name": "b", "idx": 3}], AFFINE, ("'b' by the order", "'a' by its idx")),
        (ONE, [{"name": "a", "idx": "one"}], AFFINE, ("whole number",)),
        (ONE, {"lesion": 1}, AFFINE, ("label_info",)),
        (ONE, [{"name": 7}], AFFINE, ("label_info",)),
        (ONE, names("background"), AFFINE, ("nothing but background",)),
    ],
)
def test_what_is_refused(
    live: LiveApp, voxels: np.ndarray, info: object, affine: np.ndarray, words: tuple[str, ...]
) -> None:
    assert put(live, ONE, names("lesion")).status_code == 200
    before, listed = kept(live), live.ask("GET", "/datastore/label/info?label=case_1&tag=final").json()
    check_refusal(live, put(live, voxels, info, affine), 422, words)
    assert kept(live) == before
    assert live.ask("GET", "/datastore/label/info?label=case_1&tag=final").json() == listed


@pytest.mark.parametrize(
    ("voxels", "info", "affine", "words"),
    [
        (ONE, names("lesion"), AFFINE, None),
        (ONE * 7, None, AFFINE, None),
        (LESIONS, names("lesion", "cyst"), AFFINE, None),
        (np.flip(LESIONS, 2), names("lesion", "cyst"), AFFINE @ np.diag([1.0, 1, -1, 1]) @ _shift_k(), None),
        (LESIONS, names("lesion", "lesion 2"), AFFINE, "2 objects of the label 'lesion'"),
        (LESIONS, names("lesion", "lesion"), AFFINE, "2 objects of the label 'lesion'"),
        (ONE, names("lesion", "cyst"), AFFINE, "Nothing is drawn of cyst."),
        (ONE, [{"name": "lesion", "idx": 5}], AFFINE, "1 is 'lesion'"),
        (ONE, names("lesion"), moved(2, 0, 0), "lies up to 2.0 voxels from them"),
        (ONE, names("lesion"), moved(-22, 0, 0), "outside of the image"),
        (ONE * 0, None, AFFINE, "nothing found"),
    ],
)
def test_what_is_taken_and_said(
    live: LiveApp, voxels: np.ndarray, info: object, affine: np.ndarray, words: str | None
) -> None:
    answer = put(live, voxels, info, affine)
    assert answer.status_code == 200, answer.text
    warnings = answer.json().get("warnings", [])
    assert any(words in sentence for sentence in warnings) if words else not warnings, warnings
    saved = np.asarray(nib.Nifti1Image.from_bytes(__import__("gzip").decompress(kept(live))).dataobj)
    np.testing.assert_array_equal(saved, voxels)


def test_an_empty_label_replaces_no_other(live: LiveApp) -> None:
    assert put(live, ONE).status_code == 200
    before = kept(live)
    check_refusal(live, put(live, ONE * 0), 422, ("empty", "replace"))
    assert kept(live) == before
    assert live.ask("DELETE", "/datastore/label?id=case_1&tag=final").status_code == 200
    app_instance().datastore().refresh()
    for _ in range(2):
        assert "nothing found" in put(live, ONE * 0).json()["warnings"][0]


def test_other_tags_may_hold_anything(live: LiveApp) -> None:
    for voxels, info in ((ONE * 0, None), (LESIONS, None), (LESIONS, names("lesion"))):
        answer = put(live, voxels, info, moved(100, 0, 0), tag="original")
        assert answer.status_code == 200 and "warnings" not in answer.json()


def test_label_without_a_place(live: LiveApp) -> None:
    image = nib.Nifti1Image(ONE[:-1], None)
    image.header.set_zooms((1, 1, 1))
    answer = requests.put(
        f"{live.url}/datastore/label",
        params={"image": "case_1"},
        files={"label": ("x.nii.gz", packed(image.to_bytes()))},
        timeout=60,
    )
    check_refusal(live, answer, 422, ("47 x 40 x 24", "48 x 40 x 24", "does not say where"))


def test_names_that_come_later_are_checked_too(live: LiveApp) -> None:
    assert put(live, LESIONS, names("lesion", "cyst")).status_code == 200
    address = "/datastore/label/info?label=case_1&tag=final"
    for wrong in (names("lesion"), [{"name": "a", "idx": 1}, {"name": "b", "idx": 1}], [{"name": 3}], "x"):
        check_refusal(live, live.ask("PUT", address, data={"info": json.dumps({"label_info": wrong})}), 422)
    assert live.ask("GET", address).json()["label_info"] == names("lesion", "cyst")
    better = json.dumps({"label_info": names("lesion", "lesion 2")})
    assert live.ask("PUT", address, data={"info": better}).status_code == 200
    assert live.ask("PUT", address, data={"info": json.dumps({"model": "test"})}).status_code == 200


def test_own_mask_that_is_empty_replaces_no_label(live: LiveApp, tmp_path: Path) -> None:
    assert put(live, ONE, names("lesion")).status_code == 200
    before = kept(live)

    def save(voxels: np.ndarray) -> dict[str, Any]:
        nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "mask.nii.gz")
        answer = {"file": str(tmp_path / "mask.nii.gz"), "params": {"label_names": {"lesion": 1}}}
        request = {"image": "case_1", "model": "test", "label_tag": "final"}
        return save_mask(answer, request, app_instance().datastore())

    refused = save(ONE * 0)
    (said,) = refused["params"]["warnings"]
    assert "not saved" in said and "empty" in said and "label" not in refused and kept(live) == before
    saved = save(ONE)
    assert saved["label"] == "case_1" and "warnings" not in saved["params"] and kept(live) != before


def test_a_label_on_every_third_slice_is_refused_and_one_with_a_gap_is_taken_with_a_sentence(live: LiveApp) -> None:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[10:20, 10:20, 2:20] = 1
    sparse, gap = np.zeros(SHAPE, np.uint8), drawn.copy()
    sparse[:, :, ::3] = drawn[:, :, ::3]
    gap[:, :, 9] = 0
    answer = put(live, sparse, names("lesion"))
    check_refusal(live, answer, 422, ("no neighbours", "interpolate"))
    assert kept(live) == b""
    answer = put(live, gap, names("lesion"))
    assert answer.status_code == 200, answer.text
    assert "'lesion' has an empty slice between others; nothing was filled in." in answer.text


def test_a_file_where_the_labels_should_lie_is_said_and_the_label_is_saved_once_it_is_gone(live: LiveApp) -> None:
    blocking = live.studies / "labels/second_reader"
    blocking.parent.mkdir(exist_ok=True)
    blocking.write_text("notes")
    try:
        check_refusal(live, put(live, LESIONS, names("lesion", "cyst"), tag="second_reader"), 503, ("move it away",))
    finally:
        blocking.unlink()
    try:
        answer = put(live, LESIONS, names("lesion", "cyst"), tag="second_reader")
        assert answer.status_code == 200, answer.text
    finally:
        live.ask("DELETE", "/datastore/label?id=case_1&tag=second_reader")
