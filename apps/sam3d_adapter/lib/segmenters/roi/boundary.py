"""A first answer that was given from afar: its surface is looked at again at half the spacing, region by region."""

import itertools
import math

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from lib.geometry.interpolation import within
from lib.geometry.paste import BACKGROUND, Part
from lib.geometry.roi import Roi
from lib.geometry.tiles import Offset, shifted
from lib.prompts.click import Click
from lib.segmenters.roi.prediction import Looks
from lib.segmenters.roi.surface_grid import doubled, finer, near_surface

FURTHER = 2
"""Regions beside the one in the middle, each of which costs an encode."""
WORTHWHILE = 1 / 20
"""Share of the surface that a further region must hold."""
MARGIN = 1 / 16
"""Share of a region's side along its faces, in which the network sees too little around."""


def look_along_surface(
    looks: Looks, coarse: Part, centre: Roi, click: Click, threshold: float, room: int = FURTHER
) -> tuple[Part, int]:
    """The answer on a grid of half its spacing, its surface as the network sees it at that spacing.

    Regions are half as wide as the view of the answer. The first lies in its middle; further ones, half a side apart,
    where they hold most of the surface that is left. The network is shown the answer so far, and the click where the
    region holds it, or else the place that is deepest in the mask. What it says is averaged with what it said from
    afar: on patients that it never saw, either alone is worse (docs/experiments/zoom-levels.md).

    Args:
        looks: at the image.
        coarse: the answer; its view is a cube.
        centre: region in the middle of that view, at half the spacing.
        click: foreground.
        threshold: foreground probability.
        room: regions that may be looked at beside the first; never more than `FURTHER`.

    Returns:
        The finer answer, and how many regions were looked at beside the first.
    """
    side = centre.size_dhw[0]
    whole = shifted(centre, (-(side // 2),) * 3, (2 * side,) * 3)
    with looks.stages.time("paste"):
        logit = finer(coarse.logit)
        left = doubled(near_surface(coarse.logit, threshold)) & _inside_image(whole)
    least = WORTHWHILE * int(left.sum())
    further = -1
    offset: Offset | None = (side // 2,) * 3
    while offset is not None:
        further += 1
        # Counted from the first region, whose own numbers must come out to the last bit: its embedding may be at hand.
        region = shifted(centre, (offset[0] - side // 2, offset[1] - side // 2, offset[2] - side // 2))
        box, core = _box(offset, side), _box(offset, side, MARGIN)
        with looks.stages.time("paste"):
            shown = click if region.holds(click) else deepest_in(logit[box], region, threshold)
        if shown is not None:
            asked = looks(region, [shown], logit[box].clone())
            seen = torch.clamp(asked[1] - asked[0], BACKGROUND, -BACKGROUND)[_box((0, 0, 0), side, MARGIN)]
            logit[core] = torch.where(left[core], (seen + logit[core]) / 2, logit[core])
        with looks.stages.time("paste"):
            left[core] = False
            offset = _most_left(left, side, least) if further < min(room, FURTHER) else None
    return Part(whole, logit), further


def _box(offset: Offset, side: int, margin: float = 0) -> tuple[slice, ...]:
    """A region's voxels, less a margin given as a share of its side."""
    less = int(margin * side)
    return tuple(slice(start + less, start + side - less) for start in offset)


def _most_left(left: Tensor, side: int, least: float) -> Offset | None:
    """Where, in steps of half a side, a region holds most of what is left; None where that is not worth a look."""
    counts = {
        offset: int(left[_box(offset, side, MARGIN)].sum())
        for offset in itertools.product((0, side // 2, side), repeat=3)
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


def deepest_in(logit: Tensor, region: Roi, threshold: float) -> Click | None:
    """The place deepest in a mask, counting the region's faces as outside; None where there is no mask."""
    mask = (logit > math.log(threshold / (1 - threshold))).numpy()
    if not mask.any():
        return None
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    place = region.dhw_to_ijk(np.argwhere(depth == depth.max())[:1])[0]
    i, j, k = np.clip(np.rint(place), 0, np.array(region.image_shape) - 1).astype(int).tolist()
    return Click((i, j, k))
