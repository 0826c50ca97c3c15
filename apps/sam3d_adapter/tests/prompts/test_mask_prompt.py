"""A mask to start from: which one, what the network is shown of it, and the place that stands for a click."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lib.geometry.roi import place_roi
from lib.infers.protected import ReadProtectedd
from lib.prompts.click import Click
from lib.prompts.mask_prompt import LOGIT, MaskPrompt, ReadStartMaskd, deepest
from lib.volumes.label_map import LabelMapError
from lib.volumes.volume import make_volume
from tests.support.geometry import GEOMETRIES, make_affine

SHAPE = (40, 36, 30)
AFFINE = make_affine("LPS", (0.8, 0.9, 1.5), (10, 5, -8))
VOLUME = make_volume(np.zeros(SHAPE, np.int16), AFFINE, "image")
FOREGROUND, BACKGROUND = Click((20, 18, 15)), Click((30, 18, 15), False)


@pytest.fixture
def label_map(tmp_path: Path) -> Path:
    array = np.zeros(SHAPE, np.uint8)
    array[10:32, 10:26, 8:22], array[2:6, 2:6, 2:6] = 2, 5
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "labels.nii.gz")
    return tmp_path / "labels.nii.gz"


def read(path: Path | None, *clicks: Click, is_read: bool = True, **more: Any) -> dict[Any, Any]:
    data = {"start_from": "upload", "uploaded_label": path and str(path), "clicks": clicks, "volume": VOLUME}
    return ReadStartMaskd("lesion", 24.0, is_read=is_read)(data | {"warnings": []} | more)


def protect(path: Path, *clicks: Click, **more: Any) -> dict[Any, Any]:
    data = {"protected": "upload", "uploaded_label": str(path), "clicks": clicks, "volume": VOLUME} | more
    return ReadProtectedd("lesion")(data)


def test_a_value_that_was_named(label_map: Path) -> None:
    start = read(label_map, FOREGROUND, start_value=2)["start_mask"]
    assert (start.source, start.value, start.mask.sum()) == ("upload", 2, 22 * 16 * 14)


def test_a_value_by_its_name(label_map: Path) -> None:
    """The second of the names belongs to the second of the values."""
    more = {"start_from": "label", "saved_label": str(label_map), "saved_names": ["liver", "Lesion"]}
    assert read(None, FOREGROUND, **more)["start_mask"].value == 5
    protected = protect(label_map, FOREGROUND, **more | {"protected": "label", "saved_names": ["lesion", "liver"]})
    assert protected["protected"].exception == 2 and protected["protected"].mask.sum() == 4**3


@pytest.mark.parametrize(
    ("clicks", "more", "words"),
    [
        ((), {"start_value": 2}, "at least one click"),
        ((FOREGROUND,), {}, "the values 2, 5; say with 'start_value'"),
        ((FOREGROUND,), {"start_value": 3}, "start_value is 3, but the label map holds the values 2, 5"),
        ((FOREGROUND,), {"uploaded_label": None}, "No mask came with the request"),
        ((FOREGROUND,), {"start_from": "label"}, "no saved label here"),
        ((Click((0, 0, 29), False),), {"start_value": 5}, "more than 24 mm from the mask"),
    ],
)
def test_what_cannot_be_started_from(label_map: Path, clicks: Any, more: Any, words: str) -> None:
    with pytest.raises(LabelMapError, match=words):
        read(label_map, *clicks, **more)


def test_a_network_that_reads_none_says_so(label_map: Path) -> None:
    with pytest.raises(LabelMapError, match="had no effect. A foreground click or a box is needed"):
        read(label_map, is_read=False)
    data = read(label_map, FOREGROUND, is_read=False)
    assert data["start_mask"] is None and "had no effect" in data["warnings"][0]


def test_background_clicks_alone_imply_a_place_in_the_mask(label_map: Path) -> None:
    data = read(label_map, BACKGROUND, start_value=2)
    start, place = data["start_mask"], data["implied_click"]
    assert start.mask[place.ijk] and place.is_foreground and place.ijk != BACKGROUND.ijk
    assert str(list(place.ijk)) in data["warnings"][0]
    assert read(label_map, FOREGROUND, BACKGROUND, start_value=2).get("implied_click") is None


def test_the_deepest_place_by_hand() -> None:
    mask = np.zeros((40, 40, 40), bool)
    mask[5:16, 10:21, 10:21] = True
    assert deepest(mask, np.eye(4), (Click((20, 15, 15), False),), 20).ijk == (10, 15, 15)
    # A background click in the very middle leaves the middles of what is around it.
    found = deepest(mask, np.eye(4), (Click((10, 15, 15), False),), 20)
    assert mask[found.ijk] and np.linalg.norm(np.array(found.ijk) - [10, 15, 15]) >= 2


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_network_is_shown_the_mask_where_it_is(name: str) -> None:
    directions, spacing, degrees = GEOMETRIES[name]
    affine = make_affine(directions, spacing, degrees)
    mask = np.zeros(SHAPE, bool)
    mask[10:32, 10:26, 8:22] = True
    roi = place_roi([FOREGROUND], SHAPE, affine, size=32, spacing_mm=1.0)
    logits = MaskPrompt(mask, "upload", 1, "h").logits(roi)
    assert logits.shape == (32, 32, 32) and logits.abs().max() <= LOGIT
    for ijk, expected in (((20, 18, 15), LOGIT), ((12, 12, 10), LOGIT), ((8, 18, 15), -LOGIT), ((20, 18, 24), -LOGIT)):
        d, h, w = np.rint(roi.ijk_to_dhw([ijk])[0]).astype(int)
        if min(d, h, w) >= 0 and max(d, h, w) < 32:
            assert float(logits[d, h, w]) == pytest.approx(expected), ijk


def test_own_value_of_the_same_map_is_not_protected(label_map: Path) -> None:
    start = read(label_map, FOREGROUND, start_value=2)["start_mask"]
    assert protect(label_map, FOREGROUND, start_mask=start)["protected"].mask.sum() == 4**3
    assert protect(label_map, FOREGROUND, protected_except=2)["protected"].exception == 2


def test_a_foreground_click_on_a_protected_voxel_is_named(label_map: Path) -> None:
    with pytest.raises(LabelMapError, match=r"\[20, 18, 15\] lies on a protected voxel.*'protected_except'"):
        protect(label_map, FOREGROUND)
    assert protect(label_map, Click((20, 18, 15), False), Click((38, 2, 2)))["protected"].mask.sum() > 0
