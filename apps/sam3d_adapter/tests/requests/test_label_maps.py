"""Prompts beside their image: which clicks are needed, which mask is started from, what is protected."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lib.prompts.click import Click
from lib.prompts.mask import MaskPrompt
from lib.prompts.prompts import Prompts
from lib.prompts.reading import ClickError
from lib.requests.label_maps import MASK_NOT_READ, Protected, read_prompts, read_protected
from lib.requests.request import Request
from lib.segmenters.contract import Capabilities
from lib.volumes.label_map import LabelMapError
from lib.volumes.mask_hash import mask_hash
from lib.volumes.volume import make_volume
from tests.support.geometry import make_affine
from tests.support.layered_labels import write_layers

SHAPE = (40, 36, 30)
AFFINE = make_affine("LPS", (0.8, 0.9, 1.5), (10, 5, -8))
VOLUME = make_volume(np.zeros(SHAPE, np.int16), AFFINE, "image")
FOREGROUND, BACKGROUND = [20, 18, 15], [30, 18, 15]
BOX = [[10, 10, 8], [31, 25, 21]]


@pytest.fixture
def label_map(tmp_path: Path) -> Path:
    array = np.zeros(SHAPE, np.uint8)
    array[10:32, 10:26, 8:22], array[2:6, 2:6, 2:6] = 2, 5
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "labels.nii.gz")
    return tmp_path / "labels.nii.gz"


def read(path: Path | None = None, *, reads_mask: bool = True, **request: Any) -> tuple[Prompts, list[str]]:
    kinds = frozenset({"click", "box", "mask"} if reads_mask else {"click"})
    read = Request.read({"uploaded_label": path and str(path)} | request, "lesion")
    return read_prompts(read, VOLUME, "lesion", Capabilities(kinds, True, "region"), None)


def started(path: Path | None, **request: Any) -> MaskPrompt:
    start = read(path, **request)[0].mask
    assert start is not None
    return start


def protect(path: Path, *clicks: Click, mask: MaskPrompt | None = None, **request: Any) -> Protected:
    read = Request.read({"protected": "upload", "uploaded_label": str(path)} | request, "lesion")
    protected = read_protected(read, VOLUME, "lesion", Prompts((*clicks, *([mask] if mask else []))), None)
    assert protected is not None
    return protected


def test_3d_slicer_counts_the_slices_of_left_handed_images_from_the_other_end() -> None:
    sent = {"foreground": [[20, 18, 3]], "background": [[1, 2, 29]], "roi": [10, 31, 10, 25, 2, 9]}
    marks = {"client_id": "Dr. Roe", "label": "lesion", "result_extension": ".nrrd", "result_dtype": "uint8"}
    by_slicer = {**sent, **marks}
    mirrored = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
    left_handed = mirrored if np.linalg.det(mirrored) < 0 else AFFINE
    for request, axes, is_reversed in (
        (by_slicer, left_handed, True),
        (by_slicer, left_handed @ np.diag([1.0, -1.0, 1.0, 1.0]), False),
        (sent, left_handed, False),
        ({**by_slicer, "result_extension": ".nii.gz"}, left_handed, False),
    ):
        image = make_volume(np.zeros(SHAPE, np.int16), axes, "image")
        prompts, warnings = read_prompts(
            Request.read(request, "lesion"), image, "lesion", Capabilities(frozenset({"click", "box"}), True, ""), None
        )
        assert [text.split(":")[0] for text in warnings] == ["slices-reversed"] * is_reversed
        places = [click.ijk for click in prompts.clicks]
        assert prompts.box is not None
        slices = prompts.box.first[2], prompts.box.last[2]
        if is_reversed:
            assert places == [(20, 18, 26), (1, 2, 0)] and slices == (20, 27)
        else:
            assert places == [(20, 18, 3), (1, 2, 29)] and slices == (2, 9)
        assert prompts.box.first[:2] == (10, 10) and prompts.box.last[:2] == (31, 25)


@pytest.fixture
def overlapping(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    lesion, organ = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    lesion[18:26, 14:22, 12:18], organ[10:22, 10:26, 8:22] = 1, 1
    path = write_layers(tmp_path / "a.seg.nrrd", [organ, lesion], [("organ", 0, 1), ("lesion", 1, 1)], AFFINE)
    return path, lesion > 0, organ > 0


def test_one_of_overlapping_segments(overlapping: tuple[Path, np.ndarray, np.ndarray]) -> None:
    path, lesion, organ = overlapping
    for value, mask in ((1, organ), (2, lesion)):
        np.testing.assert_array_equal(started(path, foreground=[FOREGROUND], start_value=value).mask, mask)
    saved: dict[str, Any] = {"saved_label": str(path), "saved_names": ["organ", "lesion"], "start_from": "label"}
    np.testing.assert_array_equal(started(None, foreground=[FOREGROUND], **saved).mask, lesion)
    with pytest.raises(LabelMapError, match="the values 1, 2; say with 'start_value'"):
        started(path, foreground=[FOREGROUND])
    np.testing.assert_array_equal(protect(path, protected_except=2).mask, organ)
    np.testing.assert_array_equal(protect(path).mask, organ | lesion)


def test_clicks_and_box() -> None:
    prompts, warnings = read(foreground=[[39, 35, 29], [1, 2, 3]], background=[[4, 5, 6]], roi=[10, 31, 10, 25, 8, 21])
    assert prompts.clicks == (Click((39, 35, 29)), Click((1, 2, 3)), Click((4, 5, 6), False))
    assert prompts.to_json()["box"] == BOX and prompts.mask is None and warnings == []


@pytest.mark.parametrize("foreground", [None, [], "", " ", "[]", "null", ()])
def test_at_least_one_foreground_click(foreground: Any) -> None:
    for background in ([], [BACKGROUND]):
        with pytest.raises(ClickError, match="No foreground click.*click on the structure"):
            read(foreground=foreground, background=background)


def test_a_box_or_a_mask_stands_for_a_foreground_click(label_map: Path) -> None:
    assert read(box=BOX)[0].clicks == ()
    assert read(label_map, background=[BACKGROUND], start_value=2)[0].clicks == (Click((30, 18, 15), False),)


@pytest.mark.parametrize("request_", [{"foreground": [[40, 0, 0]]}, {"foreground": [[1, 1, 1]], "background": "x"}])
def test_clicks_that_cannot_be_used(request_: dict[str, Any]) -> None:
    with pytest.raises(ClickError):
        read(**request_)


def test_a_value_that_was_named(label_map: Path) -> None:
    start = started(label_map, foreground=[FOREGROUND], start_value=2)
    assert (start.source, start.value, start.mask.sum()) == ("upload", 2, 22 * 16 * 14)
    assert start.hash == mask_hash(start.mask)


def test_a_value_by_its_name(label_map: Path) -> None:
    """The second of the names belongs to the second of the values."""
    more = {"foreground": [FOREGROUND], "start_from": "label", "saved_label": str(label_map)}
    start = started(None, **more, saved_names=["liver", "Lesion"])
    assert (start.source, start.value) == ("label", 5)
    more = {"protected": "label", "saved_label": str(label_map), "saved_names": ["lesion", "liver"]}
    protected = protect(label_map, Click((20, 18, 15)), **more)
    assert (protected.source, protected.exception, protected.mask.sum()) == ("label", 2, 4**3)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"start_value": 2, "foreground": []}, "at least one click"),
        ({}, "the values 2, 5; say with 'start_value'"),
        ({"start_value": 3}, "start_value is 3, but the label map holds the values 2, 5"),
        ({"uploaded_label": None, "start_from": "upload"}, "No mask came with the request"),
        ({"start_from": "label"}, "no saved label here"),
    ],
)
def test_what_cannot_be_started_from(label_map: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(LabelMapError, match=words):
        read(label_map, **{"foreground": [FOREGROUND]} | more)


def test_a_network_that_reads_none_says_so(label_map: Path) -> None:
    with pytest.raises(LabelMapError, match="had no effect. A foreground click or a box is needed"):
        read(label_map, reads_mask=False)
    for placed in ({"foreground": [FOREGROUND]}, {"box": BOX}):
        prompts, warnings = read(label_map, reads_mask=False, **placed)
        assert prompts.mask is None and warnings == [f"mask-not-read: {MASK_NOT_READ}"]


def test_nothing_is_protected_unless_it_is_asked_for(label_map: Path) -> None:
    request = Request.read({"uploaded_label": str(label_map)}, "lesion")
    assert read_protected(request, VOLUME, "lesion", Prompts(), None) is None


def test_own_value_of_the_same_map_is_not_protected(label_map: Path) -> None:
    click = Click((20, 18, 15))
    start = started(label_map, foreground=[FOREGROUND], start_value=2)
    found = protect(label_map, click, mask=start)
    assert found.mask.sum() == 4**3 and found.hash == mask_hash(found.mask)
    assert protect(label_map, click, protected_except=2).exception == 2
    # Of another map, the same value may be another organ.
    with pytest.raises(LabelMapError, match="protected voxel"):
        protect(label_map, click, mask=start, protected="label", saved_label=str(label_map))


def test_a_foreground_click_on_a_protected_voxel_is_named(label_map: Path) -> None:
    with pytest.raises(LabelMapError, match=r"\[20, 18, 15\] lies on a protected voxel.*'protected_except'"):
        protect(label_map, Click((20, 18, 15)))
    assert protect(label_map, Click((20, 18, 15), False), Click((38, 2, 2))).mask.sum() > 0
