"""Metrics against other formulas and MONAI's own, and on sequences that can be summed by hand."""

import warnings

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_surface_dice

from lib.evaluation import metrics
from lib.evaluation.simulated_user import SimulatedClick

SHAPE = (24, 30, 18)
SPACING = (1.0, 0.7, 2.5)


def ball(centre: tuple[float, float, float], radius_mm: float, shape=SHAPE, spacing=SPACING) -> np.ndarray:
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    square = sum(((axis - at) * mm) ** 2 for axis, at, mm in zip(axes, centre, spacing, strict=True))
    return np.asarray(square <= radius_mm**2)


# mask and truth; some touch or leave the image
PAIRS = [
    pytest.param(ball((12, 15, 9), 7), ball((13, 17, 9), 6), id="inside"),
    pytest.param(ball((0, 15, 0), 9), ball((1, 12, 1), 9), id="at the border"),
    pytest.param(ball((12, 15, 9), 60), ball((12, 15, 9), 6), id="all of the image"),
    pytest.param(ball((4, 4, 3), 3), ball((20, 25, 14), 3), id="apart"),
    pytest.param(np.random.default_rng(0).random(SHAPE) > 0.7, ball((12, 15, 9), 8), id="noise"),
]


@pytest.mark.parametrize(("mask", "truth"), PAIRS)
def test_cropping_changes_no_surface_dice(mask: np.ndarray, truth: np.ndarray) -> None:
    whole = [torch.from_numpy(array)[None, None] for array in (mask, truth)]
    for tolerance, score in zip((2.0, 5.0), metrics.surface_dice(mask, truth, SPACING), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = compute_surface_dice(
                *whole, class_thresholds=[tolerance], include_background=True, spacing=SPACING, use_subvoxels=True
            )
        assert score == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(("mask", "truth"), PAIRS)
def test_dice_is_monais(mask: np.ndarray, truth: np.ndarray) -> None:
    expected = compute_dice(*(torch.from_numpy(array)[None, None].float() for array in (mask, truth)))
    assert metrics.dice(mask, truth) == pytest.approx(float(expected), abs=1e-6)


def test_dice_by_hand() -> None:
    truth = np.zeros((4, 4, 4), bool)
    truth[:2] = True
    assert metrics.dice(truth, truth) == 1 and metrics.dice(~truth, truth) == 0
    assert metrics.dice(np.ones_like(truth), truth) == 2 * 32 / (64 + 32)


def test_surface_dice_of_shells_one_within_the_other() -> None:
    shape, spacing = (36, 36, 36), (0.75, 0.75, 0.75)
    inner, outer = (ball((18, 18, 18), radius, shape, spacing) for radius in (8, 11.5))
    # Every point of either surface is 3.5 mm from the other, but for the steps of the voxels.
    assert metrics.surface_dice(inner, outer, spacing) == (0.0, 1.0)
    assert metrics.surface_dice(inner, inner, spacing) == (1.0, 1.0)
    assert metrics.surface_dice(inner & False, outer, spacing) == (0.0, 0.0)


def test_surface_dice_weights_by_area_in_mm() -> None:
    # A block of 40 x 40 x 40 mm and one that is 6 mm longer: 5 of 6 faces agree, but for what is longer.
    spacing = (1.0, 1.0, 1.0)
    block, longer = np.zeros((50, 44, 44), bool), np.zeros((50, 44, 44), bool)
    block[2:42, 2:42, 2:42] = True
    longer[2:48, 2:42, 2:42] = True
    face, strip = 40 * 40, 4 * 40 * 6
    # Near the other are also: of the longer one, what lies 2 (5) mm or less beyond the block's end; of that end, what
    # lies 2 (5) mm or less from the sides.
    rim = {mm: face - (40 - 2 * mm) ** 2 for mm in (2, 5)}
    near = {mm: 2 * 5 * face + 4 * 40 * mm + rim[mm] for mm in (2, 5)}
    total = 2 * 6 * face + strip
    for tolerance, score in zip((2, 5), metrics.surface_dice(block, longer, spacing), strict=True):
        assert score == pytest.approx(near[tolerance] / total, abs=0.02)


def test_areas() -> None:
    scores = [0.0, 1.0, 0.5, 0.5, 1.0, 0.2, 0.2]
    assert metrics.auc(scores) == 0 / 2 + 1 + 0.5 + 0.5 + 1 / 2
    assert metrics.auc([1.0] * 10) == 4
    assert metrics.normalised_auc([1.0] * 10) == 1
    assert metrics.normalised_auc([0.0, 0.5, 1.0]) == pytest.approx(0.5)


def test_surfaces_of_bad_masks_do_not_count() -> None:
    assert metrics.counted_nsd([0.9, 0.9, 0.9], [0.2, 0.21, 0.1]) == [0.0, 0.9, 0.0]


def test_number_of_clicks() -> None:
    scores = [0.5, 0.8, 0.79, 0.9]
    assert [metrics.number_of_clicks(scores, target) for target in (80, 85, 90, 95)] == [2, 4, 4, None]


def test_drops() -> None:
    scores = [0.5, 0.505, 0.5, 0.3, 0.3, 0.3]
    clicked = [True, True, True, True, True, False]
    assert metrics.drops(scores, clicked) == (2 / 4, 1 / 4)
    assert metrics.drops([0.5, 0.5 - 1e-7], [True, True]) == (0, 0)
    assert metrics.drops([1.0, 1.0], [True, False]) == (None, None)


def test_obeyed() -> None:
    mask = np.zeros((2, 2, 2), bool)
    mask[0] = True
    clicks = [SimulatedClick(at, at, sign) for at, sign in (((0, 0, 0), True), ((1, 0, 0), True), ((0, 1, 1), False))]
    assert metrics.obeyed(mask, clicks) == [True, False, False]


def click_at(*ijk: int) -> SimulatedClick:
    return SimulatedClick(ijk, ijk, True)


def test_far_change_by_hand() -> None:
    """Along a row of voxels of 2 mm: 30 mm are 15 voxels, and the 16th is far."""
    before = np.zeros((40, 3, 3), bool)
    before[:30, 1, 1] = True
    after = before.copy()
    after[15:25, 1, 1] = False  # 10 voxels change, of which 16 to 24 are far from voxel 0
    assert metrics.far_change(before, after, [click_at(0, 1, 1)], (2.0, 1.0, 1.0)) == pytest.approx(9 / 14)
    assert metrics.far_change(after, before, [click_at(0, 1, 1)], (2.0, 1.0, 1.0)) == pytest.approx(9 / 14)
    # A second new click has the rest within its reach.
    assert metrics.far_change(before, after, [click_at(0, 1, 1), click_at(20, 1, 1)], (2.0, 1.0, 1.0)) is None
    assert metrics.far_change(before, after, [click_at(20, 1, 1)], (2.0, 1.0, 1.0)) == 0.0
    assert metrics.far_change(before, before, [click_at(0, 1, 1)], (2.0, 1.0, 1.0)) == 0.0
    assert metrics.far_change(before & False, before & False, [click_at(0, 1, 1)], (2.0, 1.0, 1.0)) is None
