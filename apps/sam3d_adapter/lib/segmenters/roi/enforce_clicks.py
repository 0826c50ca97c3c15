"""A click decides about its voxel, and about what the network sees as one structure with that voxel."""

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
"""Distance from the threshold's logit at which a voxel is set, so that interpolation keeps it on its side."""

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

    - A foreground click outside the mask adds the voxels connected with it that are at least as probable as its own.
      If these have no border within the click's influence radius, the network sees nothing there: only the click's
      voxel is added.
    - A background click inside the mask removes what belongs to it rather than to a foreground click: a watershed
      divides the mask among the clicks, flooding from each, least probable voxels last. If the click's share has no
      border within the radius, only its voxel is removed: a ball around the click is nothing that the network sees.

    No click changes anything beyond its influence radius, see `lib.geometry.click_influence`.

    Args:
        logits: (2, D, H, W), channel 1 the foreground.
        clicks_dhw: (N, 3) ROI indices, all within the ROI.
        signs: of each click, true on the structure.
        spacing_mm: of the ROI.
        threshold: foreground probability.
        anchors_dhw: (M, 3) ROI indices that keep their share of the mask from background clicks, as foreground clicks
            do, but add nothing.

    Returns:
        The logits, the same object where nothing had to change; for each click whether the network obeyed it.
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
        # Two clicks may share a voxel of a coarse ROI; `RoiSegmenter` settles that on the image's grid.
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
    """The voxels that a foreground click adds, see `enforce_clicks`."""
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
    """The voxels that background clicks remove, see `enforce_clicks`."""
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
