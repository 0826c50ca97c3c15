"""Structures that were drawn on single slices: what is refused, what is said, and what is no gap."""

import numpy as np
import pytest

from lib.annotations.slice_gaps import SliceGapsError, require_filled

SHAPE = (30, 28, 26)
GRID = np.indices(SHAPE).astype(float)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    return sum((along - at) ** 2 for along, at in zip(GRID, centre, strict=True)) <= radius**2


def on(mask: np.ndarray, axis: int, slices: list[int]) -> np.ndarray:
    """A mask with nothing on other slices."""
    kept = np.zeros(SHAPE, bool)
    at = (*[slice(None)] * axis, slices)
    kept[at] = mask[at]
    return kept


def said_of(mask: np.ndarray) -> list[str]:
    return require_filled(mask.astype(np.uint8), [("lesion", (1,))])


BALL = ball((15, 14, 13), 8)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("step", [2, 3, 5])
def test_every_nth_slice_is_refused_along_any_axis(axis: int, step: int) -> None:
    with pytest.raises(SliceGapsError, match="'lesion' is drawn on slices that are no neighbours.*interpolate"):
        said_of(on(BALL, axis, list(range(0, SHAPE[axis], step))))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize(("left_out", "words"), [([14], "an empty slice"), ([11, 12, 15], "3 empty slices")])
def test_forgotten_slices_are_said(axis: int, left_out: list[int], words: str) -> None:
    (sentence,) = said_of(on(BALL, axis, [place for place in range(SHAPE[axis]) if place not in left_out]))
    assert sentence == f"'lesion' has {words} between others; nothing was filled in."


@pytest.mark.parametrize(
    "mask",
    [
        BALL,
        ball((8, 14, 13), 5) | ball((22, 14, 13), 5),  # a pair of organs
        on(BALL, 2, [13]),  # a flat lesion
        on(ball((6, 6, 4), 3), 2, [4]) | on(ball((20, 20, 12), 3), 2, [12]),  # small ones on thick slices
        np.zeros(SHAPE, bool),
    ],
)
def test_what_is_no_gap(mask: np.ndarray) -> None:
    assert said_of(mask) == []


def test_segments_that_overlap_are_looked_at_whole() -> None:
    voxels = BALL.astype(np.uint8)
    voxels[:, :, ::2] *= 2  # of both segments, on every second slice
    assert require_filled(voxels, [("organ", (1, 2))]) == []
    with pytest.raises(SliceGapsError, match="'cyst'"):
        require_filled(voxels, [("organ", (1, 2)), ("cyst", (2,))])
