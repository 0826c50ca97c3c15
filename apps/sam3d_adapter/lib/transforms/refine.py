"""A coarse answer on a grid of half its spacing, and where its surface is."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.transforms.separable import interpolate, linear_taps

SURFACE = 4
"""Voxels of the finer grid, two of the coarser, within which the answer's surface may lie elsewhere."""
MARGIN = 4
"""Voxels at the faces of a view in which the network sees too little around."""


def finer(logit: Tensor) -> Tensor:
    """(2D, 2H, 2W) float32: a logit (D, H, W) at half its spacing, every other voxel on one of the coarser grid."""
    taps = [linear_taps(np.arange(2 * n) / 2, n) for n in logit.shape]
    return interpolate(logit, taps)


def near_surface(logit: Tensor, threshold: float) -> Tensor:
    """(D, H, W) bool: voxels close to the surface of a mask, the view's margin left out.

    Args:
        logit: (D, H, W), of the foreground.
        threshold: foreground probability.
    """
    mask = (logit > math.log(threshold / (1 - threshold))).float()[None, None]
    around, inside = _grown(mask), 1 - _grown(1 - mask)
    near = (around > inside)[0, 0]
    core = torch.zeros_like(near)
    core[(slice(MARGIN, -MARGIN),) * 3] = True
    return near & core


def _grown(mask: Tensor) -> Tensor:
    """A mask (1, 1, D, H, W) and all within the surface's width along each axis."""
    width = 2 * SURFACE + 1
    for kernel in ((width, 1, 1), (1, width, 1), (1, 1, width)):
        mask = F.max_pool3d(mask, kernel, stride=1, padding=tuple(k // 2 for k in kernel))
    return mask
