"""Every click is obeyed, along the network's own borders, and nothing far from it changes."""

import numpy as np
import pytest
import torch

from lib.geometry.click_influence import BACKGROUND_RADIUS_MM
from lib.segmenters.roi.enforce_clicks import enforce_clicks

SIDE = 40
GRID = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"), -1).astype(float)


def ball(centre, radius):
    return ((GRID - np.array(centre)) ** 2).sum(-1) <= radius**2


def logits_of(margin):
    return torch.stack([torch.zeros(margin.shape), torch.from_numpy(margin).float()])


def mask(logits):
    return (logits[1] > logits[0]).numpy()


def ask(margin, *clicks, spacing_mm=1.0):
    where = np.array([voxel for voxel, _ in clicks], float)
    return enforce_clicks(logits_of(margin), where, [sign for _, sign in clicks], spacing_mm)


LEFT, RIGHT, BRIDGE = ball((20, 20, 10), 7), ball((20, 20, 28), 7), ball((20, 20, 19), 3)


def test_what_is_right_is_left_alone():
    margin = np.where(LEFT, 3.0, -3.0)
    logits = logits_of(margin)
    got, obeyed = enforce_clicks(logits, np.array([[20.0, 20, 10], [20, 20, 28]]), [True, False], 1.0)
    assert got is logits and obeyed == [True, True]


def test_a_background_click_takes_the_leak_and_leaves_the_structure():
    """Two balls and a bridge of less sure voxels: the leak ends at the bridge."""
    margin = np.where(LEFT | RIGHT, 3.0, np.where(BRIDGE, 0.4, -3.0))
    got, obeyed = ask(margin, ((20, 20, 10), True), ((20, 20, 28), False))
    assert obeyed == [True, False]
    assert (mask(got) & RIGHT).sum() == 0 and (mask(got) & LEFT).sum() == LEFT.sum()


def test_a_background_click_without_a_foreground_one_in_its_piece_takes_the_piece():
    margin = np.where(LEFT | RIGHT, 3.0, -3.0)
    got, _ = ask(margin, ((20, 20, 10), True), ((20, 20, 28), False))
    np.testing.assert_array_equal(mask(got), LEFT)


def test_a_foreground_click_adds_what_the_network_sees_as_one_with_it():
    """A second ball that the network finds possible, but not probable."""
    margin = np.where(LEFT, 3.0, np.where(RIGHT, -0.8, -4.0))
    got, obeyed = ask(margin, ((20, 20, 10), True), ((20, 20, 28), True))
    assert obeyed == [True, False]
    np.testing.assert_array_equal(mask(got), LEFT | RIGHT)


def test_where_the_network_sees_nothing_the_click_adds_its_voxel_alone():
    margin = np.where(LEFT, 3.0, -4.0)
    got, _ = ask(margin, ((20, 20, 10), True), ((5, 33, 33), True))
    changed = np.argwhere(mask(got) != LEFT)
    assert changed.tolist() == [[5, 33, 33]]


def test_nothing_beyond_reach_changes():
    """A long bar at 4 mm: removal ends 30 mm from the click, whatever the rest belongs to."""
    margin = np.full((SIDE,) * 3, -3.0)
    margin[18:22, 18:22] = 3.0
    got, _ = ask(margin, ((20, 20, 2), True), ((20, 20, 36), False), spacing_mm=4.0)
    changed = np.argwhere(mask(got) != (margin > 0))
    assert len(changed) and (np.linalg.norm(changed - [20, 20, 36], axis=1) * 4.0).max() <= BACKGROUND_RADIUS_MM
    assert not mask(got)[20, 20, 36] and mask(got)[20, 20, 2]


@pytest.mark.parametrize("kept", [((4, 4, 4),), ()], ids=["beside a foreground click", "alone"])
def test_no_click_paints_a_ball(kept):
    """A mask that fills the region, of which the network is sure everywhere: no border, so nothing to go by."""
    margin = np.full((SIDE,) * 3, 6.0)
    got, obeyed = ask(margin, *((voxel, True) for voxel in kept), ((30, 30, 30), False), spacing_mm=2.0)
    assert obeyed == [True] * len(kept) + [False]
    assert np.argwhere(~mask(got)).tolist() == [[30, 30, 30]]


def test_the_ball_around_a_background_click_is_nowhere_the_border():
    """The same with a seam of unsure voxels within reach: what lies beyond it stays, and the seam is the new border."""
    margin = np.full((SIDE,) * 3, -6.0)
    margin[10:30, 10:30, :] = 6.0
    margin[10:30, 10:30, 20] = 0.5
    got, _ = ask(margin, ((20, 20, 6), True), ((20, 20, 30), False))
    kept = np.argwhere(mask(got))
    assert not mask(got)[20, 20, 30] and kept[:, 2].max() <= 20 and mask(got)[12:28, 12:28, :20].all()


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_any_clicks_on_any_answer_are_obeyed(threshold):
    rng = np.random.default_rng(0)
    for _ in range(12):
        coarse = torch.from_numpy(rng.normal(0, 3, (1, 2, 6, 6, 6))).float()
        logits = torch.nn.functional.interpolate(coarse, size=(24,) * 3, mode="trilinear")[0]
        clicks = np.unique(rng.integers(0, 24, (6, 3)), axis=0)
        signs = [bool(sign) for sign in rng.random(len(clicks)) < 0.5]
        got, obeyed = enforce_clicks(logits, clicks.astype(float), signs, 1.0, threshold)
        inside = (torch.sigmoid(got[1] - got[0]) > threshold).numpy()
        assert [bool(inside[tuple(c)]) for c in clicks] == signs
        before = (torch.sigmoid(logits[1] - logits[0]) > threshold).numpy()
        assert obeyed == [bool(before[tuple(c)]) == s for c, s in zip(clicks, signs, strict=True)]
        assert torch.isfinite(got).all()
