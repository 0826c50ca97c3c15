"""Logits of ROIs -> mask on the image's own grid."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from torch import Tensor

from lib.interaction.click import Click
from lib.interaction.roi import Roi
from lib.transforms.locality import Mask, near_clicks
from lib.transforms.separable import interpolate, linear_taps, within

BACKGROUND = -8.0
"""Foreground logit where nothing was looked at."""


@dataclass(frozen=True)
class Part:
    """One summand of the foreground logit.

    Attributes:
        roi: where it is.
        logit: (D, H, W).
        near: lists of clicks; it counts within `REACH_MM` of one click of each list alone. Empty for everywhere.
    """

    roi: Roi
    logit: Tensor
    near: tuple[tuple[Click, ...], ...] = ()


class PartsToImaged(MapTransform):
    """Adds ``pred``, the mask (i, j, k) uint8 of 0 and 1 as a MetaTensor, and ``pred_meta_dict`` for the host's writer.

    The voxels of ``clicks`` are what the clicks say, where interpolation between the grids would have it otherwise.

    Args:
        keys: of the sequence of `Part`.
        threshold: foreground probability above which a voxel belongs to the mask; between 0 and 1, both excluded.

    Raises:
        ValueError: a threshold out of range.
    """

    def __init__(self, keys: KeysCollection = "parts", *, threshold: float = 0.5) -> None:
        super().__init__(keys)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold (={threshold}) must lie between 0 and 1, both excluded.")
        self._threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            affine = d["volume"].affine.copy()
            mask = paste_parts(d[key], self._threshold)
            for click in d["clicks"]:
                mask[click.ijk] = click.is_foreground
            d["pred"] = MetaTensor(torch.from_numpy(mask), affine=affine)
            # Without it the writer would put the mask at the origin.
            d["pred_meta_dict"] = {"affine": affine}
        return d


def paste_parts(parts: Sequence[Part], threshold: float) -> np.ndarray:
    """The mask of a sum of parts on the whole image.

    Each part is interpolated trilinearly to the centres of the image's voxels. The first one is the logit of the
    foreground probability; image voxels whose centre lies outside its ROI are background to it. The others are added to
    it, as 0 from one of their own voxels beyond their border on.

    Args:
        parts: of one image, their ROIs' axes along the same image axes; at least one.
        threshold: foreground probability, between 0 and 1.

    Returns:
        (i, j, k) uint8 of 0 and 1.

    Raises:
        ValueError: logits of another shape than their ROI's.
    """
    for part in parts:
        if tuple(part.logit.shape) != part.roi.size_dhw:
            raise ValueError(f"Logits of shape {tuple(part.logit.shape)} do not fit an ROI of {part.roi.size_dhw}.")
    first = parts[0].roi
    grids = [_Grid(part.roi, beyond=number > 0) for number, part in enumerate(parts)]
    used = [(part, grid) for part, grid in zip(parts, grids, strict=True) if not grid.is_empty]
    # i fastest, as files are written; NumPy's zeros cost nothing where they are not touched.
    mask = np.zeros(first.image_shape, np.uint8, order="F")
    if not used:
        return mask
    low = np.min([grid.low for _, grid in used], axis=0)
    high = np.max([grid.high for _, grid in used], axis=0)
    logit = np.full(tuple(high - low), BACKGROUND, np.float32)
    for part, grid in used:
        box = tuple(slice(a, b) for a, b in zip(grid.low - low, grid.high - low, strict=True))
        values = grid.interpolate(part.logit)
        if part is parts[0]:
            logit[box] = values
            continue
        for clicks in part.near:
            values[~_near(part.roi, clicks, grid)] = 0
        logit[box] += values
    target = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    mask.transpose(first.image_axes)[target] = logit > math.log(threshold / (1 - threshold))
    return mask


class _Grid:
    """The image's voxels that a part has a say in, along the image axes of D, H and W.

    Args:
        roi: of the part.
        beyond: whether it goes on to 0 beyond its border, for one voxel.
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

    def interpolate(self, logit: Tensor) -> NDArray[np.float32]:
        """Values at those voxels."""
        # MONAI's MetaTensor would carry its metadata through every step.
        values = logit.detach().as_subclass(Tensor).to("cpu", torch.float32)
        if self._pad:
            values = torch.nn.functional.pad(values, (1,) * 6)
        taps = [linear_taps(p + self._pad, n) for p, n in zip(self._positions, values.shape, strict=True)]
        box = values[tuple(slice(tap.first, tap.stop) for tap in taps)]
        return np.asarray(interpolate(box.contiguous(), taps).numpy())


def _near(roi: Roi, clicks: Sequence[Click], grid: _Grid) -> Mask:
    axes = list(roi.image_axes)
    spacing_mm = roi.spacing_mm / np.abs(roi.steps)
    axes_mm = [np.arange(a, b) * mm for a, b, mm in zip(grid.low, grid.high, spacing_mm, strict=True)]
    return near_clicks(axes_mm, np.array([click.ijk for click in clicks])[:, axes] * spacing_mm)
