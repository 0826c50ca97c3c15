"""What is near to clicks, how far a click is meant, and pieces that nobody clicked on."""

import numpy as np
import pytest

from lib.geometry.click_influence import border_distance, near_clicks, unclicked


def test_near_is_by_distance_in_mm_to_any_click() -> None:
    axes = [np.arange(10) * 2.0, np.arange(12) * 1.0, np.arange(8) * 3.0]
    clicks = np.array([[4.0, 3.0, 6.0], [30.0, 0.0, 0.0]])
    near = near_clicks(axes, clicks, 5.0)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    expected = np.min([np.linalg.norm(grid - click, axis=-1) for click in clicks], axis=0) <= 5.0
    np.testing.assert_array_equal(near, expected)
    assert near.any() and not near.all()


def test_no_click_is_near_to_nothing() -> None:
    assert not near_clicks([np.arange(3.0)] * 3, np.zeros((0, 3)), 30.0).any()


def test_border_distance_is_to_what_the_click_asks_for() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[:4] = True
    assert border_distance(mask, np.array([7.0, 4, 4]), True) == 4  # missing, four voxels from the mask
    assert border_distance(mask, np.array([1.0, 4, 4]), False) == 3  # too much, three from what is beside it
    assert border_distance(mask, np.array([1.0, 4, 4]), True) == 0
    assert border_distance(np.zeros_like(mask), np.array([1.0, 4, 4]), True) == float("inf")


@pytest.mark.parametrize(("click", "goes"), [((1.0, 1, 1), False), ((6.0, 6, 6), True)])
def test_a_piece_without_click_goes_where_it_may_change_as_a_whole(click: tuple[float, ...], goes: bool) -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[0:3, 0:3, 0:3] = mask[8:, 8:, 8:] = True
    support = np.zeros_like(mask)
    support[:5] = True
    found = unclicked(mask, support, np.array([click]))
    expected = np.zeros_like(mask)
    expected[0:3, 0:3, 0:3] = goes
    np.testing.assert_array_equal(found, expected)


def test_what_reaches_beyond_stays_whole() -> None:
    mask = np.zeros((10, 4, 4), bool)
    mask[2:8] = True
    support = np.zeros_like(mask)
    support[:7] = True
    assert not unclicked(mask, support, np.zeros((0, 3))).any()
    support[7] = True
    assert unclicked(mask, support, np.zeros((0, 3))).sum() == mask.sum()
