"""A click decides about the voxel under it, and about as much around it as the network sees as one with it."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from skimage.segmentation import watershed
from torch import Tensor

from lib.geometry.click_influence import BACKGROUND_RADIUS_MM, FOREGROUND_RADIUS_MM

_LEAST = 0.5
"""Logit by which a voxel is put on its side of the threshold, so that interpolation keeps it there."""

Mask = NDArray[np.bool_]


def enforce_clicks(
    logits: Tensor,
    clicks_dhw: np.ndarray,
    signs: Sequence[bool],
    spacing_mm: float,
    threshold: float = 0.5,
    *,
    anchors_dhw: np.ndarray | None = None,
) -> tuple[Tensor, list[bool]]:
    """Changes the answer where it contradicts a click, along borders that the network itself sees.

    - A foreground click outside the mask adds the voxels around it that are connected with it and at least as probable
      as it is itself. Where these have no border within reach, so that the network sees nothing there, it adds its own
      voxel alone.
    - A background click inside the mask takes away what belongs to it rather than to a foreground click: the mask is
      divided among the clicks by flooding from each, least probable voxels last (watershed). Where that has no border
      within reach, it takes away its own voxel alone: a ball around the click is nothing that the network sees.

    No click changes anything beyond its reach, see `lib.geometry.click_influence`.

    Args:
        logits: (2, D, H, W), channel 1 the foreground.
        clicks_dhw: (N, 3) ROI indices, all within the ROI.
        signs: of each click, true on the structure.
        spacing_mm: of the ROI.
        threshold: foreground probability.
        anchors_dhw: (M, 3) ROI indices of places that keep what belongs to them from background clicks, and add
            nothing.

    Returns:
        The logits, the very ones where nothing had to be changed; for each click whether the network had obeyed it.
    """
    level = math.log(threshold / (1 - threshold))
    margin = (logits[1] - logits[0]).float().cpu().numpy() - level  # above 0 in the mask
    voxels = _nearest(clicks_dhw, margin.shape)
    anchors = [] if anchors_dhw is None else _nearest(anchors_dhw, margin.shape)
    obeyed = [bool(margin[voxel] > 0) == sign for voxel, sign in zip(voxels, signs, strict=True)]
    if all(obeyed):
        return logits, obeyed
    taken = {voxel for voxel, sign in zip(voxels, signs, strict=True) if not sign}
    for voxel, sign in zip(voxels, signs, strict=True):
        # Two clicks may share a voxel of a coarse ROI; the image's own grid settles it, see `paste_mask`.
        if sign and margin[voxel] <= 0 and voxel not in taken:
            grown = _one_with(margin, voxel, FOREGROUND_RADIUS_MM / spacing_mm)
            margin[grown] = np.maximum(-margin[grown], _LEAST)
    wrong = [v for v, sign in zip(voxels, signs, strict=True) if not sign and margin[v] > 0]
    if wrong:
        clicked = [v for v, sign in zip(voxels, signs, strict=True) if sign]
        kept = [v for v in (*clicked, *anchors) if v not in taken]
        removed = _belongs_to(margin, wrong, kept, BACKGROUND_RADIUS_MM / spacing_mm)
        margin[removed] = np.minimum(-margin[removed], -_LEAST)
    foreground = logits[0] + torch.from_numpy(margin + level).to(logits)
    return torch.stack([logits[0], foreground]), obeyed


def _nearest(places_dhw: np.ndarray, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    index = np.clip(np.rint(places_dhw).astype(int), 0, np.array(shape) - 1).reshape(-1, 3)
    return [tuple(row) for row in index.tolist()]


def _within(shape: tuple[int, ...], voxel: tuple[int, ...], reach: float) -> Mask:
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    squared = sum((axis - at) ** 2 for axis, at in zip(axes, voxel, strict=True))
    return np.asarray(squared <= reach**2)


def _one_with(margin: np.ndarray, voxel: tuple[int, ...], reach: float) -> Mask:
    """What a foreground click adds: see `enforce_clicks`."""
    ball = _within(margin.shape, voxel, reach)
    pieces, _ = label((margin >= margin[voxel]) & ball)
    piece: Mask = pieces == pieces[voxel]
    return piece & (margin <= 0) if _has_border(piece, ball) else _alone(voxel, margin.shape)


def _has_border(piece: Mask, ball: Mask) -> bool:
    """Whether a piece of a ball ends within it; one that fills most of it is bounded by the ball alone."""
    return 2 * int(piece.sum()) <= int(ball.sum())


def _alone(voxel: tuple[int, ...], shape: tuple[int, ...]) -> Mask:
    only = np.zeros(shape, bool)
    only[voxel] = True
    return only


def _belongs_to(
    margin: np.ndarray, background: list[tuple[int, ...]], foreground: list[tuple[int, ...]], reach: float
) -> Mask:
    """What background clicks take away: see `enforce_clicks`."""
    mask = margin > 0
    pieces, _ = label(mask)
    markers = np.zeros(margin.shape, np.int32)
    for number, voxels in ((1, foreground), (2, background)):
        for voxel in voxels:
            markers[voxel] = number
    # Not SciPy's `watershed_ift`: in two dimensions and more it lets one flood run over what another has already taken.
    theirs = watershed(-margin, markers, mask=mask) == 2
    removed = np.zeros_like(mask)
    for voxel in background:
        ball = _within(margin.shape, voxel, reach)
        part = theirs & (pieces == pieces[voxel]) & ball
        removed |= part if _has_border(part, ball) else _alone(voxel, margin.shape)
    return removed
