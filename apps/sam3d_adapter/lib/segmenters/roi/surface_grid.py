"""A coarse answer on a grid of half its spacing, and where its surface is."""

import math

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from lib.geometry.interpolation import interpolate, linear_taps

SURFACE = 2
"""Voxels of the coarser grid within which the answer's surface may lie elsewhere."""


def finer(logit: Tensor) -> Tensor:
    """(2D, 2H, 2W) float32: a logit (D, H, W) at half its spacing, every other voxel on one of the coarser grid."""
    taps = [linear_taps(np.arange(2 * n) / 2, n) for n in logit.shape]
    return interpolate(logit, taps)


def doubled(mask: Tensor) -> Tensor:
    """(2D, 2H, 2W): a mask (D, H, W) at half its spacing, on the grid of `finer`."""
    for dim in range(3):
        mask = mask.repeat_interleave(2, dim)
    return mask


def near_surface(logit: Tensor, threshold: float, reach: int = SURFACE) -> Tensor:
    """(D, H, W) bool: voxels within reach along each axis of where the mask ends.

    Args:
        logit: (D, H, W), of the foreground.
        threshold: foreground probability.
        reach: voxels.
    """
    mask = (logit > math.log(threshold / (1 - threshold))).float()[None, None]
    return (_grown(mask, reach) + _grown(1 - mask, reach) > 1)[0, 0]


def _grown(mask: Tensor, reach: int) -> Tensor:
    """A mask (1, 1, D, H, W) and all within reach along each axis."""
    width = 2 * reach + 1
    for kernel in ((width, 1, 1), (1, width, 1), (1, 1, width)):
        mask = F.max_pool3d(mask, kernel, stride=1, padding=tuple(k // 2 for k in kernel))
    return mask
