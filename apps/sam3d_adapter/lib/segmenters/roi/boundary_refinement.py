"""An initial prediction from a wide zoom level: its surface is predicted again at half the spacing."""

import itertools
import math
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as F

from lib.geometry.interpolation import interpolate, linear_taps, within
from lib.geometry.paste import BACKGROUND, LogitPatch
from lib.geometry.roi import Roi
from lib.geometry.tiles import Offset, shifted
from lib.prompts.click import Click
from lib.segmenters.roi.prediction import RoiPredictions

FURTHER = 2
"""Further regions at most; each costs an encode."""
WORTHWHILE = 1 / 20
"""Least share of the surface for which a further region is predicted."""
MARGIN = 1 / 16
"""Margin at a region's faces, share of its side: there the network sees too little context."""
SURFACE = 2
"""How far the surface may move, in voxels of the coarser grid."""


def refine_along_surface(
    predictions: RoiPredictions,
    coarse: LogitPatch,
    centre: Roi,
    clicks: Sequence[Click],
    threshold: float,
    room: int = FURTHER,
) -> tuple[LogitPatch, frozenset[Hashable]]:
    """The answer on a grid of half its spacing, with its surface as the network predicts it at that spacing.

    Regions are half as wide as the zoom level of the answer. The first lies in its middle; further ones, half a side
    apart, where they hold most of the surface that is left. The network is shown the answer so far, and the clicks in
    the region, or else the place that is deepest in the mask. Its prediction is averaged with the coarse one: on
    patients that it never saw, either alone is worse (docs/experiments).

    Args:
        predictions: of the image.
        coarse: the answer; its region is a cube.
        centre: region in the middle of that cube, at half the spacing.
        clicks: foreground.
        threshold: foreground probability.
        room: regions that may be predicted beside the first; never more than `FURTHER`.

    Returns:
        The finer answer, and the keys of the regions that were predicted.
    """
    side = centre.size_dhw[0]
    whole = shifted(centre, (-(side // 2),) * 3, (2 * side,) * 3)
    with predictions.stages.time("paste"):
        logit = finer(coarse.logit)
        left = doubled(near_surface(coarse.logit, threshold)) & _inside_image(whole)
    least = WORTHWHILE * int(left.sum())
    further, regions = -1, set[Hashable]()
    offset: Offset | None = (side // 2,) * 3
    while offset is not None:
        further += 1
        # Placed relative to the first region, whose numbers must come out bit for bit: its embedding may be cached.
        region = shifted(centre, (offset[0] - side // 2, offset[1] - side // 2, offset[2] - side // 2))
        box, core = _box(offset, side), _box(offset, side, MARGIN)
        with predictions.stages.time("paste"):
            shown = [click for click in clicks if region.holds(click)]
            if not shown and (place := deepest_in(logit[box], region, threshold)):
                shown = [place]
        if shown:
            regions.add(region.key())
            asked = predictions(region, shown, logit[box].clone())
            seen = torch.clamp(asked[1] - asked[0], BACKGROUND, -BACKGROUND)[_box((0, 0, 0), side, MARGIN)]
            logit[core] = torch.where(left[core], (seen + logit[core]) / 2, logit[core])
        with predictions.stages.time("paste"):
            left[core] = False
            offset = _most_left(left, side, least) if further < min(room, FURTHER) else None
    return LogitPatch(whole, logit), frozenset(regions)


def finer(logit: Tensor) -> Tensor:
    """(2D, 2H, 2W) float32: a logit (D, H, W) at half its spacing, every other voxel on one of the coarser grid."""
    return interpolate(logit, [linear_taps(np.arange(2 * n) / 2, n) for n in logit.shape])


def doubled(mask: Tensor) -> Tensor:
    """(2D, 2H, 2W): a mask (D, H, W) at half its spacing, on the grid of `finer`."""
    for dim in range(3):
        mask = mask.repeat_interleave(2, dim)
    return mask


def near_surface(logit: Tensor, threshold: float, reach: int = SURFACE) -> Tensor:
    """(D, H, W) bool: voxels at most ``reach`` voxels along each axis from where the mask ends.

    Args:
        logit: (D, H, W), of the foreground.
        threshold: foreground probability.
        reach: voxels.
    """
    mask = (logit > math.log(threshold / (1 - threshold))).float()[None, None]
    return (_grown(mask, reach) + _grown(1 - mask, reach) > 1)[0, 0]


def deepest_in(logit: Tensor, region: Roi, threshold: float) -> Click | None:
    """The place deepest in a mask, counting the region's faces as outside; None where there is no mask."""
    mask = (logit > math.log(threshold / (1 - threshold))).numpy()
    if not mask.any():
        return None
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    place = region.dhw_to_ijk(np.argwhere(depth == depth.max())[:1])[0]
    i, j, k = np.clip(np.rint(place), 0, np.array(region.image_shape) - 1).astype(int).tolist()
    return Click((i, j, k))


def _grown(mask: Tensor, reach: int) -> Tensor:
    """A mask (1, 1, D, H, W) dilated by ``reach`` voxels along each axis."""
    width = 2 * reach + 1
    for kernel in ((width, 1, 1), (1, width, 1), (1, 1, width)):
        mask = F.max_pool3d(mask, kernel, stride=1, padding=tuple(k // 2 for k in kernel))
    return mask


def _box(offset: Offset, side: int, margin: float = 0) -> tuple[slice, ...]:
    """A region's voxels, less a margin given as a share of its side."""
    less = int(margin * side)
    return tuple(slice(start + less, start + side - less) for start in offset)


def _most_left(left: Tensor, side: int, least: float) -> Offset | None:
    """Offset, in steps of half a side, of the region with most of what is left; None if it is not worth an encode."""
    starts = (0, side // 2, side)
    counts = {
        (d, h, w): int(left[_box((d, h, w), side, MARGIN)].sum()) for d, h, w in itertools.product(starts, repeat=3)
    }
    best = max(counts, key=lambda offset: counts[offset])
    return best if counts[best] > least else None


def _inside_image(roi: Roi) -> Tensor:
    """(D, H, W) bool: voxels of an ROI that lie in the image."""
    d, h, w = (
        torch.from_numpy(within(positions, roi.image_shape[axis]))
        for positions, axis in zip(roi.image_positions(), roi.image_axes, strict=True)
    )
    return d[:, None, None] & h[:, None] & w
