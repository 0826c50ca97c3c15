"""Bodies are split where a neck joins them, and not where they are tubes."""

import numpy as np
import pytest

from lib.regions.levels import draw_levels, split_at_necks

AT = np.indices((60, 30, 30))


def ball(x: float, radius: float) -> np.ndarray:
    return (AT[0] - x) ** 2 + (AT[1] - 15) ** 2 + (AT[2] - 15) ** 2 < radius**2


def bar(radius: float) -> np.ndarray:
    return (np.hypot(AT[1] - 15, AT[2] - 15) < radius) & (AT[0] > 5) & (AT[0] < 55)


@pytest.mark.parametrize(
    ("mask", "bodies"),
    [(ball(17, 11) | ball(43, 11) | (bar(3.5) & (AT[0] > 17) & (AT[0] < 43)), 2), (bar(6), 1), (ball(30, 12), 1)],
)
def test_bodies(mask: np.ndarray, bodies: int) -> None:
    labels = split_at_necks(mask, (1.0, 1.0, 1.0), 0.5)
    sizes = np.bincount(labels.ravel())[1:]
    assert np.count_nonzero(sizes > 0.2 * mask.sum()) == bodies
    assert ((labels > 0) == mask).all()


def test_levels_lie_between_the_peaks() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(peak, 1, 1000) for peak in (0, 20, 60)])
    first, second = draw_levels(values, 3)
    assert 5 < first < 15 and 30 < second < 50
