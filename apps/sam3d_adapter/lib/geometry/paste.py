"""Logits of ROIs, and perhaps a mask that they correct -> mask on the image's grid."""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.geometry.click_influence import Mask, influence_radius_mm, squared_distance
from lib.geometry.interpolation import interpolate, linear_taps, within
from lib.geometry.resample import resample_roi
from lib.geometry.roi import Roi
from lib.geometry.tiles import shifted
from lib.prompts.click import Click

BACKGROUND = -8.0
"""Foreground logit where nothing was predicted."""
MASK_LOGIT = 4.0
"""Logit of a voxel of a mask prompt: the network reads it as a probability of 98 %."""
SLAB_VOXELS = 2**21
"""Voxels of the image that are computed at a time: a structure of 30 cm as a whole would take hundreds of megabytes."""


@dataclass(frozen=True)
class LogitPatch:
    """One summand of the foreground logit.

    Attributes:
        roi: where it is.
        logit: (D, H, W).
        near: clicks of one kind; the patch counts only within the influence radius of one of them. Empty for
            everywhere.
        among: clicks of both kinds; it counts only where the nearest of them is of that kind.
    """

    roi: Roi
    logit: Tensor
    near: tuple[Click, ...] = ()
    among: tuple[Click, ...] = ()


def mask_logit(mask: Mask, roi: Roi) -> Tensor:
    """(D, H, W) foreground logit of a mask (i, j, k) on an ROI, -`MASK_LOGIT` to `MASK_LOGIT`; outside the image -."""
    share, _ = resample_roi(torch.from_numpy(mask.view(np.uint8)), roi)
    return MASK_LOGIT * (2 * share[0] - 1)


def paste_patches(patches: Sequence[LogitPatch], threshold: float) -> np.ndarray:
    """The mask of a sum of patches on the whole image.

    Each patch is interpolated trilinearly to the centres of the image's voxels. The first one is the logit of the
    foreground probability; image voxels whose centre lies outside its ROI are background to it. The others are added to
    it, as 0 from one of their own voxels beyond their border on.

    Args:
        patches: of one image, their ROIs' axes along the same image axes; at least one.
        threshold: foreground probability, between 0 and 1.

    Returns:
        (i, j, k) uint8 of 0 and 1.

    Raises:
        ValueError: logits of another shape than their ROI's.
    """
    level = math.log(threshold / (1 - threshold))
    _require_fit(patches)
    first = patches[0].roi
    grids = [_Grid(patch.roi, beyond=number > 0) for number, patch in enumerate(patches)]
    used = [(patch, grid) for patch, grid in zip(patches, grids, strict=True) if not grid.is_empty]
    # i fastest, as files are written; NumPy's zeros cost nothing where they are not touched.
    mask = np.zeros(first.image_shape, np.uint8, order="F")
    if not used:
        return mask
    low = np.min([grid.low for _, grid in used], axis=0)
    high = np.max([grid.high for _, grid in used], axis=0)
    sources = [_plain(patch.logit) if patch is patches[0] else _padded(patch.logit) for patch, _ in used]
    shown = mask.transpose(first.image_axes)
    planes = max(1, SLAB_VOXELS // int(np.prod(high[1:] - low[1:])))
    for start in range(int(low[0]), int(high[0]), planes):
        at, end = np.array([start, *low[1:]]), np.array([min(start + planes, int(high[0])), *high[1:]])
        logit = np.full(tuple(end - at), BACKGROUND, np.float32)
        for (patch, whole), values_dhw in zip(used, sources, strict=True):
            grid = whole.between(start, int(end[0]))
            if grid.is_empty:
                continue
            values = grid.interpolate(values_dhw)
            if patch is patches[0]:
                logit[grid.within(at)] = values
            else:
                logit[grid.within(at)] += np.where(_near(patch, grid), values, 0)
        shown[_slices(at, end)] = logit > level
    return mask


def correct_mask(patches: Sequence[LogitPatch], start: Mask) -> np.ndarray:
    """A mask (i, j, k) uint8 that was started from, with what patches change of it.

    Where no patch changes anything, the mask stays as it is, to the voxel. Elsewhere it is the sum of the patches and
    of its own logit on their grid, interpolated to the image's voxels. A voxel changes only in the direction in which
    the patches push it, so it does not matter how well their grid resolves the mask.

    Args:
        patches: corrections, whose ROIs lie on one grid of the image; perhaps none. They begin from `mask_logit`,
            in which 0 is the border of the mask whatever the threshold.
        start: (i, j, k), the mask.

    Raises:
        ValueError: logits of another shape than their ROI's.
    """
    _require_fit(patches)
    mask = start.astype(np.uint8, order="F")
    used = [(patch, grid) for patch in patches if not (grid := _Grid(patch.roi, beyond=True)).is_empty]
    if not used:
        return mask
    low = np.min([grid.low for _, grid in used], axis=0)
    high = np.max([grid.high for _, grid in used], axis=0)
    changes = [_padded(patch.logit) for patch, _ in used]
    arounds = [shifted(patch.roi, (-1, -1, -1), _grown(patch.roi.size_dhw)) for patch, _ in used]
    starts = [mask_logit(start, around) for around in arounds]
    shown = mask.transpose(patches[0].roi.image_axes)
    planes = max(1, SLAB_VOXELS // int(np.prod(high[1:] - low[1:])))
    for first in range(int(low[0]), int(high[0]), planes):
        at, end = np.array([first, *low[1:]]), np.array([min(first + planes, int(high[0])), *high[1:]])
        own = shown[_slices(at, end)]
        change, logit = np.zeros(own.shape, np.float32), np.zeros(own.shape, np.float32)
        for (patch, whole), change_dhw, start_dhw in zip(used, changes, starts, strict=True):
            grid = whole.between(first, int(end[0]))
            if grid.is_empty:
                continue
            near, box = _near(patch, grid), grid.within(at)
            change[box] += np.where(near, grid.interpolate(change_dhw), 0)
            logit[box] = np.where(near, grid.interpolate(start_dhw), logit[box])
        own[(change > 0) & (logit + change > 0)] = 1
        own[(change < 0) & (logit + change <= 0)] = 0
    return mask


class _Grid:
    """The image's voxels that a patch covers, along the image axes of D, H and W.

    Args:
        roi: of the patch.
        beyond: whether the patch falls to 0 over one further voxel beyond its border.
    """

    def __init__(self, roi: Roi, *, beyond: bool) -> None:
        self._pad = int(beyond)
        self._positions, low, high = [], [], []
        for axis, step, start, size in zip(roi.image_axes, roi.steps, roi.starts, roi.size_dhw, strict=True):
            positions = (np.arange(roi.image_shape[axis]) - start) / step
            inside = (positions > -1) & (positions < size) if beyond else within(positions, size)
            covered = np.flatnonzero(inside)
            low.append(int(covered[0]) if len(covered) else 0)
            high.append(int(covered[-1]) + 1 if len(covered) else 0)
            self._positions.append(positions[covered])
        self.low, self.high = np.array(low), np.array(high)
        self.is_empty = not all(map(len, self._positions))

    def between(self, start: int, stop: int) -> "_Grid":
        """Those of its voxels that lie from ``start`` to below ``stop`` along the first axis."""
        cut = copy(self)
        first, last = max(start, int(self.low[0])), min(stop, int(self.high[0]))
        cut.low, cut.high = np.array([first, *self.low[1:]]), np.array([last, *self.high[1:]])
        along = self._positions[0][max(0, first - int(self.low[0])) : max(0, last - int(self.low[0]))]
        cut._positions = [along, *self._positions[1:]]
        cut.is_empty = not all(map(len, cut._positions))
        return cut

    def within(self, low: NDArray[np.int64]) -> tuple[slice, ...]:
        """The place of those voxels in an array that begins at ``low``."""
        return _slices(self.low - low, self.high - low)

    def interpolate(self, values: Tensor) -> NDArray[np.float32]:
        """Values of the ROI, padded by a voxel where the grid goes on beyond it, at those voxels."""
        taps = [linear_taps(p + self._pad, n) for p, n in zip(self._positions, values.shape, strict=True)]
        box = values[tuple(slice(tap.first, tap.stop) for tap in taps)]
        return np.asarray(interpolate(box.contiguous(), taps).numpy())


def _plain(logit: Tensor) -> Tensor:
    # MONAI's MetaTensor would carry its metadata through every step.
    return logit.detach().as_subclass(Tensor).to("cpu", torch.float32)


def _padded(logit: Tensor) -> Tensor:
    return torch.nn.functional.pad(_plain(logit), (1,) * 6)


def _near(patch: LogitPatch, grid: _Grid) -> Mask:
    """Which of the grid's voxels the patch counts for, see `LogitPatch`."""
    axes = list(patch.roi.image_axes)
    spacing_mm = patch.roi.spacing_mm / np.abs(patch.roi.steps)
    axes_mm = [np.arange(a, b) * mm for a, b, mm in zip(grid.low, grid.high, spacing_mm, strict=True)]

    def squared_mm(clicks: Sequence[Click]) -> NDArray[np.float64]:
        clicks_mm = np.array([click.ijk for click in clicks]).reshape(-1, 3)[:, axes] * spacing_mm
        return squared_distance(axes_mm, clicks_mm)

    if not patch.near:
        return np.ones(tuple(map(len, axes_mm)), bool)
    near: Mask = squared_mm(patch.near) <= influence_radius_mm(patch.near) ** 2
    sign = patch.near[0].is_foreground
    same, others = ([click for click in patch.among if click.is_foreground == kind] for kind in (sign, not sign))
    return near & (squared_mm(same) <= squared_mm(others)) if others else near


def _require_fit(patches: Sequence[LogitPatch]) -> None:
    for patch in patches:
        if tuple(patch.logit.shape) != patch.roi.size_dhw:
            raise ValueError(f"Logits of shape {tuple(patch.logit.shape)} do not fit an ROI of {patch.roi.size_dhw}.")


def _slices(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _grown(size_dhw: tuple[int, int, int]) -> tuple[int, int, int]:
    d, h, w = size_dhw
    return d + 2, h + 2, w + 2
