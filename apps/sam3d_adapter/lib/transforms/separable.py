"""Trilinear interpolation between grids with parallel axes: one axis after the other, on the box needed alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.interaction.axes import Array

HALF_VOXEL = 0.5 + 1e-6
"""A voxel's extent about its centre, with room for rounding."""


@dataclass(frozen=True)
class Taps:
    """Linear interpolation along one axis.

    Attributes:
        first: index of the first source voxel that is used; the box starts there.
        stop: one past the last.
        lower: (N,) source index of the left neighbour of each position, counted from ``first``.
        weight: (N,) weight of the right neighbour, 0 to 1.
    """

    first: int
    stop: int
    lower: Tensor
    weight: Tensor


def linear_taps(positions: Array, length: int) -> Taps:
    """Taps of fractional source indices; positions outside the voxel centres take the outermost voxel's value."""
    clamped = np.clip(positions, 0, length - 1)
    lower = np.clip(np.floor(clamped).astype(np.int64), 0, length - 2)
    first = int(lower.min())
    return Taps(
        first=first,
        stop=int(lower.max()) + 2,
        lower=torch.from_numpy(lower - first),
        weight=torch.from_numpy((clamped - lower).astype(np.float32)),
    )


def within(positions: Array, length: int) -> np.ndarray:
    """(N,) bool: which source indices lie inside the source's voxels, which end half a voxel beyond their centres."""
    return (positions >= -HALF_VOXEL) & (positions <= length - 1 + HALF_VOXEL)


def interpolate(box: Tensor, taps: Sequence[Taps]) -> Tensor:
    """Trilinear values of a box at the product of three lists of positions.

    Args:
        box: float, the source from ``first`` to ``stop`` along each axis.
        taps: one per axis.

    Returns:
        One voxel per position and axis.
    """
    # The axis that shrinks most goes first, so that the others have less to do.
    for dim in sorted(range(3), key=lambda axis: len(taps[axis].lower) / box.shape[axis]):
        shape = [1, 1, 1]
        shape[dim] = -1
        lower = taps[dim].lower
        box = torch.lerp(box.index_select(dim, lower), box.index_select(dim, lower + 1), taps[dim].weight.view(shape))
    return box
