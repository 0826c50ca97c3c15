"""What was seen of a region along other axes."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from lib.geometry.resample import resample_roi
from lib.geometry.roi import Roi, place_roi
from lib.prompts.click import Click
from lib.segmenters.roi.test_time_augmentation import rotated_back

ALL_AXES = [
    "".join(letters) for order in itertools.permutations(("SI", "AP", "RL")) for letters in itertools.product(*order)
]
SHAPE = (40, 44, 36)
# Oblique and flipped, of unequal voxels.
AFFINE = np.array([[-1.1, 0.1, 0.0, 30.0], [0.1, 0.9, 0.2, -12.0], [0.0, -0.2, 1.5, 4.0], [0, 0, 0, 1]])


def region(axes: str, size: int = 16, spacing_mm: float = 1.2, click: tuple[int, int, int] = (18, 20, 17)) -> Roi:
    return place_roi([Click(click)], SHAPE, AFFINE, size=size, spacing_mm=spacing_mm, roi_axes=axes)


@pytest.mark.parametrize("axes", ALL_AXES)
@pytest.mark.parametrize("size", [15, 16])
def test_every_place_gets_its_own_value(axes: str, size: int) -> None:
    image = torch.from_numpy(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    roi, turned = region("SAR", size), region(axes, size)
    straight, there = resample_roi(image, roi)[0][0], resample_roi(image, turned)[0][0]
    seen = rotated_back(there, turned, roi, outside=torch.full_like(straight, torch.nan))
    missing = seen.isnan()
    torch.testing.assert_close(seen[~missing], straight[~missing], rtol=0, atol=1e-5)
    # Of an even side, one plane for each axis that runs the other way has no counterpart.
    reverse = [a for a in range(3) if turned.steps[turned.image_axes.index(roi.image_axes[a])] * roi.steps[a] < 0]
    beyond = torch.zeros_like(missing)
    for axis in reverse if size % 2 == 0 else []:
        beyond.index_fill_(axis, torch.tensor([0]), True)
    assert torch.equal(missing, beyond)
    assert (axes == "SAR") == bool(there.equal(straight))


def test_what_is_not_held_is_taken_from_the_region_itself() -> None:
    roi, turned = region("SAR"), region("IAR")
    there, own = torch.ones(roi.size_dhw), torch.full(roi.size_dhw, 5.0)
    seen = rotated_back(there, turned, roi, outside=own)
    assert (seen[0] == 5).all() and (seen[1:] == 1).all() and (own == 5).all()


@pytest.mark.parametrize("other", [{"size": 15}, {"spacing_mm": 1.3}, {"click": (18, 21, 17)}])
def test_another_region_is_refused(other: dict[str, Any]) -> None:
    turned = region("IPL", **other)
    values = torch.zeros(turned.size_dhw)
    with pytest.raises(ValueError, match="differ in more than"):
        rotated_back(values, turned, region("SAR"), outside=torch.zeros(16, 16, 16))
