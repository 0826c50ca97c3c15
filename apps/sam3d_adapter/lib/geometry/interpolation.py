"""Trilinear interpolation between grids with parallel axes: axis by axis, in the box that is needed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.geometry.axes import Array

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
    lower: NDArray[np.int64]
    weight: Tensor


def linear_taps(positions: Array, length: int) -> Taps:
    """Taps of fractional source indices; positions outside the voxel centres take the outermost voxel's value."""
    clamped = np.clip(positions, 0, length - 1)
    lower = np.clip(np.floor(clamped).astype(np.int64), 0, length - 2)
    first = int(lower.min())
    return Taps(
        first=first,
        stop=int(lower.max()) + 2,
        lower=lower - first,
        weight=torch.from_numpy((clamped - lower).astype(np.float32)),
    )


def within(positions: Array, length: int) -> NDArray[np.bool_]:
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
        left, right = _take(box, taps[dim].lower, dim), _take(box, taps[dim].lower + 1, dim)
        box = torch.lerp(left, right, taps[dim].weight.view(shape))
    return box


def sample(source: Tensor, taps: Sequence[Taps]) -> Tensor:
    """Trilinear values of a source of any real type; only the voxels that are needed are converted to float.

    Args:
        source: all of its voxels along each axis.
        taps: one per axis.

    Returns:
        float32, one voxel per position and axis.
    """
    used = [np.union1d(tap.lower, tap.lower + 1) for tap in taps]
    if all(2 * len(planes) > tap.stop - tap.first for planes, tap in zip(used, taps, strict=True)):
        box = source[tuple(slice(tap.first, tap.stop) for tap in taps)]
        return interpolate(box.to(torch.float32).contiguous(), taps)
    # At a coarse spacing most voxels lie between the positions: a region of half a metre would convert a whole CT.
    picked = source.numpy()[np.ix_(*(tap.first + planes for planes, tap in zip(used, taps, strict=True)))]
    near = [
        Taps(0, len(planes), np.searchsorted(planes, tap.lower), tap.weight)
        for planes, tap in zip(used, taps, strict=True)
    ]
    return interpolate(torch.from_numpy(picked.astype(np.float32)), near)


def _take(box: Tensor, indices: NDArray[np.int64], dim: int) -> Tensor:
    # Along the last axis NumPy is fifteen times faster than index_select.
    return torch.from_numpy(np.take(box.numpy(), indices, axis=dim))
