"""Baselines on cases whose answer is known beforehand."""

import numpy as np
import pytest

from benchmarks.baselines import (
    Case,
    GrowParams,
    ball,
    centre_click,
    dice,
    distance_mm,
    grow_region,
    random_click,
    tune_ball,
    tune_region_growing,
)

SHAPE = (40, 36, 24)
SPACING = (1.0, 1.0, 2.0)
CENTRE = (20, 18, 12)


def sphere_case(radius_mm: float, contrast: float = 60.0) -> Case:
    truth = distance_mm(SHAPE, SPACING, CENTRE) <= radius_mm
    noise = np.random.default_rng(5).normal(0, 6, SHAPE)
    return Case((40 + contrast * truth + noise).astype(np.int16), truth, SPACING, CENTRE)


def test_dice_of_equal_half_and_disjoint_masks() -> None:
    first = np.array([True, True, False, False])
    assert dice(first, first) == 1.0
    assert dice(first, ~first) == 0.0
    assert dice(first, np.array([False, True, True, False])) == 0.5
    assert dice(first & False, first & False) == 1.0


def test_ball_is_measured_in_mm() -> None:
    mask = ball(SHAPE, SPACING, CENTRE, 6.0)
    assert mask[26, 18, 12] and not mask[27, 18, 12]
    assert mask[20, 18, 15] and not mask[20, 18, 16]
    assert np.count_nonzero(mask) * 2.0 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)


def test_growing_finds_a_clear_sphere() -> None:
    case = sphere_case(9.0)
    mask = grow_region(case.image, SPACING, CENTRE, GrowParams(smooth_mm=1.0, tolerance_hu=30, max_radius_mm=40))
    assert mask.dtype == bool and mask.shape == SHAPE
    assert dice(mask, case.truth) > 0.92


def test_growing_from_off_centre_finds_the_same_sphere() -> None:
    case = sphere_case(9.0)
    params = GrowParams(smooth_mm=1.0, seed_mm=2.0, tolerance_hu=30, max_radius_mm=40)
    assert dice(grow_region(case.image, SPACING, (24, 18, 13), params), case.truth) > 0.92


def test_growing_leaves_an_unconnected_twin() -> None:
    twin = (distance_mm(SHAPE, SPACING, (9, 18, 12)) <= 5) | (distance_mm(SHAPE, SPACING, (30, 18, 12)) <= 5)
    image = (100.0 * twin).astype(np.int16)
    mask = grow_region(image, SPACING, (9, 18, 12), GrowParams(smooth_mm=0.5, seed_mm=2, tolerance_hu=40))
    assert mask[9, 18, 12] and not mask[20:].any()


def test_growing_into_equal_density_stops_at_the_radius() -> None:
    image = np.zeros(SHAPE, np.int16)
    mask = grow_region(image, SPACING, CENTRE, GrowParams(max_radius_mm=8.0, open_mm=0.0))
    np.testing.assert_array_equal(mask, ball(SHAPE, SPACING, CENTRE, 8.0))


def test_growing_near_the_corner_keeps_the_grid() -> None:
    mask = grow_region(np.zeros(SHAPE, np.int16), SPACING, (0, 0, 0), GrowParams(max_radius_mm=5.0, open_mm=0.0))
    assert mask.shape == SHAPE and mask[0, 0, 0] and not mask[8:].any()


@pytest.mark.parametrize("click", [(-1, 0, 0), (0, 36, 0), (0, 0, 24)])
def test_click_outside_is_refused(click: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="outside"):
        grow_region(np.zeros(SHAPE, np.int16), SPACING, click)


def test_tuned_ball_has_the_radius_of_the_spheres() -> None:
    radius, score = tune_ball([sphere_case(9.0), sphere_case(9.0)], grid_mm=(3.0, 6.0, 9.0, 12.0))
    assert radius == 9.0
    assert score == 1.0


def test_tuning_picks_the_tolerance_that_separates() -> None:
    grid = [GrowParams(smooth_mm=1.0, tolerance_hu=t, max_radius_mm=30) for t in (3.0, 30.0, 200.0)]
    params, score = tune_region_growing([sphere_case(9.0)], grid)
    case = sphere_case(9.0)
    assert params.tolerance_hu == 30.0
    assert score == pytest.approx(dice(grow_region(case.image, SPACING, CENTRE, params), case.truth), abs=0.01)


def test_tuning_needs_cases() -> None:
    with pytest.raises(ValueError, match="No case"):
        tune_ball([])
    with pytest.raises(ValueError, match="No case"):
        tune_region_growing([])


def test_clicks_lie_in_the_mask() -> None:
    truth = sphere_case(9.0).truth
    assert centre_click(truth) in {(20, 18, 12), (20, 17, 12), (19, 18, 12)}
    rng = np.random.default_rng(3)
    clicks = {random_click(truth, rng) for _ in range(20)}
    assert len(clicks) > 10 and all(truth[click] for click in clicks)
    with pytest.raises(ValueError, match="empty"):
        centre_click(truth & False)
    with pytest.raises(ValueError, match="empty"):
        random_click(truth & False, rng)
