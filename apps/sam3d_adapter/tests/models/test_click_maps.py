"""The maps made from clicks: smoothing that stops at edges, and the best path from a click."""

import heapq

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lib.models.click_maps import ClickMaps, connectedness, smooth_between_edges


def best_paths(likeness: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The definition, by taking voxels in the order of their strength, as in Dijkstra's algorithm."""
    best = np.zeros_like(likeness)
    queue = [(-likeness[tuple(s)], tuple(s)) for s in np.argwhere(seeds)]
    heapq.heapify(queue)
    while queue:
        strength, voxel = heapq.heappop(queue)
        if -strength <= best[voxel]:
            continue
        best[voxel] = -strength
        for axis in range(3):
            for step in (-1, 1):
                there = tuple(np.add(voxel, step * np.eye(3, dtype=int)[axis]))
                if all(0 <= i < n for i, n in zip(there, likeness.shape, strict=True)):
                    heapq.heappush(queue, (-min(-strength, likeness[there]), there))
    return best


@pytest.fixture
def likeness():
    """Two batches and channels of smooth noise between 0 and 1."""
    noise = torch.rand(2, 2, 9, 10, 11, generator=torch.Generator().manual_seed(1))
    return F.avg_pool3d(noise, 3, 1, 1)


@pytest.fixture
def seeds():
    """Another seed in each batch, two in the second."""
    where = torch.zeros(2, 1, 9, 10, 11, dtype=torch.bool)
    where[0, 0, 4, 5, 5] = where[1, 0, 0, 0, 10] = where[1, 0, 8, 9, 0] = True
    return where


def test_it_is_the_best_path_when_swept_to_the_end(likeness, seeds):
    linked = connectedness(likeness, seeds, sweeps=12)
    for b in range(2):
        for c in range(2):
            expected = best_paths(likeness[b, c].numpy(), seeds[b, 0].numpy())
            np.testing.assert_array_equal(linked[b, c].numpy(), expected)


def test_few_sweeps_stay_below_the_best_path_and_close_to_it(likeness, seeds):
    few, all_paths = connectedness(likeness, seeds), connectedness(likeness, seeds, sweeps=12)
    assert (few <= all_paths).all() and (all_paths <= likeness).all()
    assert (all_paths - few).mean() < 0.01


def test_a_wall_stops_it_and_a_gap_lets_it_round():
    likeness = torch.ones(1, 1, 8, 8, 8)
    likeness[..., 4] = 0.1
    seeds = torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool)
    seeds[0, 0, 2, 2, 1] = True
    assert connectedness(likeness, seeds)[0, 0, 2, 2, 6] == pytest.approx(0.1)
    likeness[0, 0, 7, 7, 4] = 0.9
    assert connectedness(likeness, seeds)[0, 0, 2, 2, 6] == pytest.approx(0.9)


def test_the_maps_tell_the_clicked_ball_from_its_twin():
    """Two equal balls, one of them clicked: likeness is the same in both, connectedness is not."""
    axis = torch.arange(16) - 7.5
    squared = axis[:, None, None] ** 2 + axis[:, None] ** 2  # (H, W, 1)
    left, right = (squared + (axis + shift) ** 2 < 9 for shift in (4, -4))
    image = (left | right).float()[None, None]
    maps = ClickMaps(sigmas=(4.0,), scales=(1,), tolerances=(0.3,), out_channels=1)
    seen = []
    maps.conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    left_ball = torch.tensor([[[7.0, 15.0, 15.0]]])  # (D, H, W) of 32 voxels
    maps(left_ball, torch.ones(1, 1, dtype=torch.bool), maps.appearance(image), 32)
    like, linked = seen[0][0, 1], seen[0][0, 3]  # of the average; those of the smoothed image follow each
    core = [ball & (like > 0.5) for ball in (left, right)]
    assert like[core[0]].mean() == pytest.approx(float(like[core[1]].mean()), rel=0.05)
    assert linked[core[0]].min() > 0.5 > 0.2 > linked[core[1]].max()


def test_smoothing_takes_the_noise_and_leaves_the_edge():
    step = torch.zeros(1, 1, 16, 16, 16)
    step[..., 8:] = 0.6
    noisy = step + 0.1 * torch.randn(step.shape, generator=torch.Generator().manual_seed(2))
    smooth = smooth_between_edges(noisy)
    assert (smooth - step)[..., :7].std() < 0.2 * (noisy - step)[..., :7].std()
    across = (smooth[..., 8] - smooth[..., 7]).mean()
    assert across == pytest.approx(0.6, abs=0.06)
    averaged = F.avg_pool3d(noisy, 3, 1, 1)
    assert across > 2 * (averaged[..., 8] - averaged[..., 7]).mean()


def test_smoothing_keeps_the_sum_and_stays_within_the_range():
    image = torch.randn(1, 1, 8, 9, 10, generator=torch.Generator().manual_seed(3))
    smooth = smooth_between_edges(image, edge=10.0, iterations=200)
    torch.testing.assert_close(smooth.sum(), image.sum(), rtol=1e-3, atol=1e-3)
    assert image.min() <= smooth.min() and smooth.max() <= image.max()
