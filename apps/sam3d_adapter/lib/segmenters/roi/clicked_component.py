"""The clicked component of a mask: pieces elsewhere are not what the user meant."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from lib.geometry.click_influence import border_distance
from lib.geometry.roi import Roi

_DROPPED = -20.0
"""Logit of dropped voxels: a probability of 2e-9; finite, so that interpolation stays finite."""


def clicked_component(logits: Tensor, clicks_dhw: np.ndarray, threshold: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The mask, and those of its face-connected pieces that hold a click.

    Args:
        logits: (2, D, H, W).
        clicks_dhw: (N, 3) ROI indices.
        threshold: foreground probability.

    Returns:
        Two (D, H, W) bool arrays; equal where no piece holds a click.
    """
    mask = ((logits[1] - logits[0]) > math.log(threshold / (1 - threshold))).cpu().numpy()
    pieces, _ = label(mask)
    index = np.clip(np.rint(clicks_dhw).astype(int), 0, np.array(mask.shape) - 1)
    clicked = np.unique(pieces[tuple(index.T)])
    clicked = clicked[clicked > 0]
    return mask, np.isin(pieces, clicked) if len(clicked) else mask


def keep_clicked(logits: Tensor, clicks_dhw: np.ndarray, threshold: float = 0.5) -> Tensor:
    """The logits (2, D, H, W) with the unclicked pieces of the mask as background."""
    mask, kept = clicked_component(logits, clicks_dhw, threshold)
    dropped = torch.from_numpy(mask & ~kept).to(logits.device)
    return torch.stack([logits[0], torch.where(dropped, logits[0] + _DROPPED, logits[1])])


def holds_any(logits: Tensor, clicks_dhw: np.ndarray, others_dhw: np.ndarray, threshold: float) -> bool:
    """Whether the clicked structure holds any of other places.

    Args:
        logits: (2, D, H, W).
        clicks_dhw: (N, 3) ROI indices.
        others_dhw: (M, 3) ROI indices, within the ROI.
        threshold: foreground probability.
    """
    _, kept = clicked_component(logits, clicks_dhw, threshold)
    index = np.clip(np.rint(others_dhw).astype(int), 0, np.array(kept.shape) - 1)
    return bool(kept[tuple(index.T)].any())


def outgrows_roi(logits: Tensor, clicks_dhw: np.ndarray, threshold: float, large_share: float) -> bool:
    """Whether a wider ROI may show more of the clicked structure.

    Either the structure touches a face of the ROI, or it is so large that the network may have missed its border.

    Args:
        logits: (2, D, H, W).
        clicks_dhw: (N, 3) ROI indices.
        threshold: foreground probability.
        large_share: of the ROI's side; a structure whose sphere of equal volume is wider is large.
    """
    _, kept = clicked_component(logits, clicks_dhw, threshold)
    return _touches_face(kept) or _diameter(int(kept.sum())) > large_share * len(kept)


def is_small(logits: Tensor, clicks_dhw: np.ndarray, threshold: float, small_share: float) -> bool:
    """Whether the sphere of equal volume of the clicked structure is narrower than a share of the ROI's side.

    Args:
        logits: (2, D, H, W).
        clicks_dhw: (N, 3) ROI indices.
        threshold: foreground probability.
        small_share: of the ROI's side.
    """
    _, kept = clicked_component(logits, clicks_dhw, threshold)
    return _diameter(int(kept.sum())) < small_share * len(kept)


def far_outside(click_dhw: np.ndarray, pieces: Sequence[tuple[np.ndarray, Sequence[int]]]) -> bool:
    """Whether a click lies farther from a mask than the radius of the sphere of the mask's volume.

    Such a click says that the mask is far too small, not that its border is wrong somewhere.

    Args:
        click_dhw: (3,) index.
        pieces: of the mask, (D, H, W) bool, each with the index of its first voxel; no voxel is in two of them.
    """
    nearest = min(border_distance(mask, click_dhw - np.array(first), True) for mask, first in pieces)
    return nearest > _diameter(sum(int(mask.sum()) for mask, _ in pieces)) / 2


def leaves_roi(logits: Tensor, clicks_dhw: np.ndarray, roi: Roi, threshold: float = 0.5) -> bool:
    """Whether the clicked structure goes on in the image beyond the ROI."""
    _, kept = clicked_component(logits, clicks_dhw, threshold)
    kept[1:-1, 1:-1, 1:-1] = False
    ijk = roi.dhw_to_ijk(np.argwhere(kept))
    return bool(((ijk >= 0) & (ijk <= np.array(roi.image_shape) - 1)).all(axis=1).any())


def _diameter(volume: int) -> float:
    """Of the sphere of that volume, in voxels."""
    return float((6 / math.pi * volume) ** (1 / 3))


def _touches_face(mask: np.ndarray) -> bool:
    return int(mask.sum()) != int(mask[1:-1, 1:-1, 1:-1].sum())
