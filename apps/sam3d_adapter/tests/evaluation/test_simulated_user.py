"""The simulated user on volumes small enough to be worked out by hand."""

import zlib

import numpy as np
import pytest

from lib.evaluation.simulated_user import (
    ModeError,
    SimulatedClick,
    SimulatedUser,
    bounding_box,
    clicks_at_once,
    deepest_error,
)

ISOTROPIC = (1.0, 1.0, 1.0)


def volume(shape: tuple[int, int, int], *boxes: tuple[slice | int, slice | int, slice | int]) -> np.ndarray:
    """A bool volume that is true in the boxes."""
    array = np.zeros(shape, dtype=bool)
    for box in boxes:
        array[box] = True
    return array


def user(truth: np.ndarray, mode: str = "centre", seed: int = 42, case: str = "a", spacing=ISOTROPIC) -> SimulatedUser:
    return SimulatedUser(truth, spacing, mode, seed, case)


# error, voxel that is clicked
DEEPEST = [
    pytest.param(volume((7, 7, 7), (slice(1, 6),) * 3), (3, 3, 3), id="cube: its middle"),
    # 5 voxels across the third axis alone: voxel units decide, so the middle plane; spacing plays no part
    pytest.param(volume((3, 3, 3), (slice(0, 3),) * 3), (1, 1, 1), id="all of the image: beyond it is no error"),
    pytest.param(volume((4, 1, 1), (0, 0, 0), (slice(2, 4), 0, 0)), (2, 0, 0), id="largest component, tie of two: 0"),
    pytest.param(volume((9, 1, 1), (slice(1, 3), 0, 0), (slice(5, 7), 0, 0)), (1, 0, 0), id="equal components: first"),
    # RandomState(42).choice(4) is 2
    pytest.param(volume((1, 1, 6), (0, 0, slice(1, 5))), (0, 0, 3), id="tie of four voxels: index 2"),
    # RandomState(42).choice(8) is 6: the seventh of the cube's voxels in C order, (1, 1, 0) from its corner
    pytest.param(volume((5, 5, 5), (slice(2, 4),) * 3), (3, 3, 2), id="tie of eight voxels: index 6"),
    # 26-connectivity: the two diagonal neighbours outnumber the single pair
    pytest.param(
        volume((6, 3, 3), (0, 0, 0), (5, 0, 0), (4, 1, 1), (3, 2, 2)), (5, 0, 0), id="corners touch: index 2 of three"
    ),
]


@pytest.mark.parametrize(("error", "expected"), DEEPEST)
def test_the_deepest_voxel_of_the_largest_component(error: np.ndarray, expected: tuple) -> None:
    assert deepest_error(error, seed=42) == expected


def test_ties_are_drawn_by_index_and_anew_for_every_click() -> None:
    error = volume((1, 1, 6), (0, 0, slice(1, 5)))
    assert {deepest_error(error, seed=42) for _ in range(3)} == {(0, 0, 1 + np.random.RandomState(42).choice(4))}
    assert deepest_error(error, seed=1) == (0, 0, 1 + np.random.RandomState(1).choice(4))


def test_no_error_no_click() -> None:
    truth = volume((3, 3, 3), (1, 1, 1))
    assert deepest_error(truth & False, seed=42) is None
    assert user(truth).correct(truth, step=2) is None


def test_the_first_click_lies_in_the_middle_of_the_largest_piece() -> None:
    truth = volume((12, 7, 7), (slice(1, 6), slice(1, 6), slice(1, 6)), (slice(8, 10), 3, 3))
    assert user(truth).first_clicks() == [SimulatedClick((3, 3, 3), (3, 3, 3), True)]


def test_what_was_missed_and_what_was_too_much_form_one_component() -> None:
    truth = volume((1, 1, 9), (0, 0, slice(3, 6)))
    # Missed 3 and 4, too much 6 and 7: two errors of two voxels, with the right voxel 5 between them.
    apart = volume((1, 1, 9), (0, 0, slice(5, 8)))
    assert user(truth).correct(apart, step=2) == SimulatedClick((0, 0, 3), (0, 0, 3), True)
    # Missed 5, too much 6, 7, 8: touching, so one of four, index 2 of it: voxel 7.
    touching = volume((1, 1, 9), (0, 0, slice(3, 5)), (0, 0, slice(6, 9)))
    assert user(truth).correct(touching, step=2) == SimulatedClick((0, 0, 7), (0, 0, 7), False)


@pytest.mark.parametrize("mode", ["random", "paper-3"])
def test_drawn_voxels_depend_on_seed_case_and_step_alone(mode: str) -> None:
    truth = volume((4, 5, 6), (slice(1, 3), slice(2, 4), slice(1, 5)))
    clicks = user(truth, mode, seed=43, case="some/1").first_clicks()
    inside = [tuple(voxel) for voxel in np.argwhere(truth).tolist()]
    drawn = np.random.default_rng([43, zlib.crc32(b"some/1"), 1]).integers(len(inside), size=len(clicks))
    assert [click.ijk for click in clicks] == [inside[index] for index in drawn]
    assert all(click.positive and click.intended_ijk == click.ijk for click in clicks)
    assert clicks != user(truth, mode, seed=44, case="some/1").first_clicks()
    assert clicks != user(truth, mode, seed=43, case="some/2").first_clicks()


def test_clicks_at_once_are_drawn_with_replacement() -> None:
    truth = volume((2, 2, 2), (0, 1, 1))
    assert [click.ijk for click in user(truth, "paper-10").first_clicks()] == [(0, 1, 1)] * 10


def test_jitter_moves_in_mm_and_keeps_the_sign() -> None:
    truth = volume((41, 41, 21), (slice(18, 23), slice(18, 23), slice(8, 13)))
    spacing = (0.5, 1.0, 3.0)
    one = user(truth, "jitter", case="b", spacing=spacing)
    (click,) = one.first_clicks()
    error_mm = np.random.default_rng([42, zlib.crc32(b"b"), 1]).normal(0, 3.0, 3)
    assert click.intended_ijk == (20, 20, 10) and click.positive
    assert click.ijk == tuple(np.rint([20 + error_mm[0] / 0.5, 20 + error_mm[1], 10 + error_mm[2] / 3]).astype(int))
    assert one.misses(click) == (not truth[click.ijk])


def test_jitter_stays_in_the_image() -> None:
    truth = volume((2, 2, 2), (0, 0, 0))
    for step in range(1, 30):
        click = user(truth, "jitter", spacing=(0.1, 0.1, 0.1)).correct(truth & False, step)
        assert click is not None and all(0 <= index < 2 for index in click.ijk)


def test_unknown_modes_and_empty_objects_are_refused() -> None:
    for mode in ("center", "paper-0", "paper", "paper-x"):
        with pytest.raises(ModeError, match="choose from"):
            clicks_at_once(mode)
    assert clicks_at_once("paper-3") == 3 and clicks_at_once("jitter") is None
    with pytest.raises(ValueError, match="no voxel"):
        user(np.zeros((2, 2, 2), bool))


def test_bounding_box() -> None:
    assert bounding_box(volume((5, 6, 7), (1, 2, 3), (3, 2, 6))) == (slice(1, 4), slice(2, 3), slice(3, 7))
    assert bounding_box(np.zeros((2, 2, 2), bool)) is None
