"""Only the pieces that were clicked on stay, and the border is noticed."""

import numpy as np
import pytest
import torch

from lib.geometry.roi import place_roi
from lib.prompts.click import Click
from lib.segmenters.roi.clicked_component import is_small, keep_clicked, leaves_roi, outgrows_roi


def logits_of(*boxes):
    """Logits (2, 12, 12, 12) of +5 in boxes (D, H, W slices) and -5 elsewhere."""
    foreground = torch.full((12, 12, 12), -5.0)
    for box in boxes:
        foreground[box] = 5.0
    return torch.stack([torch.zeros(12, 12, 12), foreground])


FIRST = (slice(2, 5), slice(2, 5), slice(2, 6))
SECOND = (slice(7, 10), slice(7, 9), slice(6, 10))
EDGE = (slice(2, 5), slice(2, 5), slice(2, 12))


def mask(logits):
    return (logits[1] > logits[0]).numpy()


@pytest.mark.parametrize(
    "clicks, kept",
    [
        ([(3, 3, 4)], (FIRST,)),
        ([(8, 8, 8)], (SECOND,)),
        ([(3, 3, 4), (8, 8, 8)], (FIRST, SECOND)),
        ([(0, 0, 0)], (FIRST, SECOND)),  # no piece was hit: nothing is known about them
    ],
)
def test_pieces_without_a_click_go(clicks, kept):
    logits = logits_of(FIRST, SECOND)
    before = logits.clone()
    got = keep_clicked(logits, np.array(clicks, dtype=float))
    np.testing.assert_array_equal(mask(got), mask(logits_of(*kept)))
    assert torch.isfinite(got).all() and logits.equal(before)


def test_the_threshold_decides_what_a_piece_is():
    logits = logits_of(FIRST, SECOND)
    logits[1][5:7, 3, 3] = -1.0  # a bridge of probability 0.27
    logits[1][6, 3:8, 3:7] = -1.0
    joined = keep_clicked(logits, np.array([[3.0, 3, 4]]), threshold=0.2)
    assert joined.equal(logits)
    assert not mask(keep_clicked(logits, np.array([[3.0, 3, 4]])))[SECOND].any()


@pytest.mark.parametrize("share, small", [(0.33, False), (0.35, True)])
def test_only_the_clicked_piece_is_measured(share, small):
    """36 voxels are a sphere of 4.1, 0.34 of the side."""
    assert is_small(logits_of(FIRST, SECOND), np.array([(3.0, 3, 4)]), 0.5, share) is small


@pytest.mark.parametrize(
    "boxes, click, reaches",
    [((FIRST,), (3, 3, 4), False), ((EDGE,), (3, 3, 4), True), ((FIRST, (slice(11, 12),) * 3), (3, 3, 4), False)],
)
def test_only_the_clicked_piece_can_reach_the_border(boxes, click, reaches):
    assert outgrows_roi(logits_of(*boxes), np.array([click], dtype=float), 0.5, 0.42) is reaches


def test_an_empty_mask_reaches_nothing():
    assert not outgrows_roi(logits_of(), np.array([[3.0, 3, 4]]), 0.5, 0.42)


@pytest.mark.parametrize(("side", "share", "large"), [(4, 0.42, False), (5, 0.42, True), (5, 0.6, False)])
def test_a_large_piece_asks_for_a_wider_view_before_it_reaches_a_face(side, share, large):
    box = (slice(3, 3 + side),) * 3  # 5 voxels a side have the volume of a sphere of 6.2, 4 of one of 5.0
    assert outgrows_roi(logits_of(box), np.array([[4.0, 4, 4]]), 0.5, share) is large


@pytest.mark.parametrize(("length", "leaves"), [(60, True), (24, False)])
def test_a_structure_leaves_the_roi_only_where_the_image_goes_on(length, leaves):
    """An ROI of 12 around voxel 20 shows 14 to 25 along each axis."""
    roi = place_roi([Click((20, 20, 20))], (length, 60, 60), np.eye(4), size=12, spacing_mm=1.0, roi_axes="RAS")
    box = (slice(4, 12), slice(4, 8), slice(4, 8))
    assert leaves_roi(logits_of(box), np.array([[6.0, 6, 6]]), roi) is leaves
    inner = (slice(4, 11), slice(4, 8), slice(4, 8))
    assert not leaves_roi(logits_of(inner), np.array([[6.0, 6, 6]]), roi)
