"""Masks that see no image, by hand and by volume."""

import math

import numpy as np
import pytest

from lib.evaluation.image_free_baselines import BallPainter, centred_ellipsoid, ellipsoid_in_box, filled_box
from lib.evaluation.simulated_user import SimulatedClick

SPACING = (1.0, 2.0, 0.5)


def click(i: int, j: int, k: int, positive: bool = True) -> SimulatedClick:
    return SimulatedClick((i, j, k), (i, j, k), positive)


def test_the_first_ball_has_one_radius_and_further_ones_another() -> None:
    painter = BallPainter((40, 20, 80), SPACING, (6.0, 3.0))
    first = painter.paint([click(10, 10, 40)]).copy()
    assert first[16, 10, 40] and not first[17, 10, 40] and first[10, 13, 40] and not first[10, 14, 40]
    assert first.sum() * math.prod(SPACING) == pytest.approx(4 / 3 * math.pi * 6**3, rel=0.05)
    second = painter.paint([click(30, 10, 40)]) & ~first
    assert second[33, 10, 40] and not second[34, 10, 40]
    assert second.sum() * math.prod(SPACING) == pytest.approx(4 / 3 * math.pi * 3**3, rel=0.15)


def test_a_negative_click_removes_its_ball() -> None:
    painter = BallPainter((20, 20, 20), (1, 1, 1), (6.0, 2.0))
    mask = painter.paint([click(10, 10, 10), click(10, 10, 10, positive=False)])
    assert not mask[10, 10, 10] and not mask[12, 10, 10] and mask[13, 10, 10]


def test_a_ball_at_the_border() -> None:
    mask = BallPainter((3, 3, 3), (1, 1, 1), (1.0, 1.0)).paint([click(0, 0, 2)])
    assert sorted(map(tuple, np.argwhere(mask).tolist())) == [(0, 0, 1), (0, 0, 2), (0, 1, 2), (1, 0, 2)]


def test_ellipsoids() -> None:
    shape = (40, 60, 30)
    middle = centred_ellipsoid(shape, 0.5)
    assert middle.sum() == pytest.approx(4 / 3 * math.pi * 10 * 15 * 7.5, rel=0.02)
    assert np.argwhere(middle).mean(axis=0) == pytest.approx([19.5, 29.5, 14.5])
    truth = np.zeros(shape, bool)
    truth[5:25, 10, 3], truth[8, 10:40, 3:13] = True, True
    assert filled_box(truth).sum() == 20 * 30 * 10
    inscribed = ellipsoid_in_box(truth)
    assert inscribed.sum() == pytest.approx(math.pi / 6 * 20 * 30 * 10, rel=0.02)
    assert not (inscribed & ~filled_box(truth)).any()
