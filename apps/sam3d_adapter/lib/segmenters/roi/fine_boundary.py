"""The surface of a mask that was given from afar, looked at again at full resolution."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects
from torch import Tensor

from lib.geometry.axes import spacing_of
from lib.geometry.click_influence import unclicked
from lib.geometry.paste import BACKGROUND, Part, correct_mask
from lib.geometry.roi import Roi, roi_at
from lib.geometry.tiles import Offset, as_offset, shifted
from lib.presets import RoiPreset
from lib.prompts.click import Click
from lib.prompts.mask_prompt import StartMask
from lib.segmenters.roi.boundary import MARGIN, deepest_in
from lib.segmenters.roi.prediction import MAX_ENCODES, Looks
from lib.segmenters.roi.surface_grid import near_surface
from lib.volumes.label_map import Mask

REGIONS = MAX_ENCODES
"""At most, each of which costs an encode where it is not at hand."""
WORTHWHILE = 1 / 50
"""Share of the surface that a region must hold."""
AGREES = 0.85
"""Dice of what the network sees in a region and of the mask there: below, it took the inside for the outside."""
BAND_MM = 4.0
"""How far from where it was the surface may come to lie, mm."""


def refine_surface(
    looks: Looks, preset: RoiPreset, view: Roi, mask: Mask, told: Sequence[Click], threshold: float
) -> tuple[Mask, int]:
    """Looks at the surface of a mask at the finest spacing, in the regions that hold most of it.

    The finest spacing is the preset's, or the image's own where that is coarser. What the network says there, shown the
    mask, is averaged with the mask: as in `lib.segmenters.roi.boundary`, either alone is worse.

    Args:
        looks: at the image.
        preset: size, axes and spacing of the regions.
        view: the regions lie on a lattice around its middle.
        mask: (i, j, k).
        told: foreground clicks in the mask, which stay in it; the network is told of them, and where a region holds
            none, of the place that is deepest in the mask.
        threshold: foreground probability.

    Returns:
        The mask, and how many regions were looked at.
    """
    middle = view.dhw_to_ijk([[size // 2 for size in view.size_dhw]])[0]
    spacing_mm = finest_spacing_mm(looks, preset)
    lattice = roi_at(middle, mask.shape, looks.volume.affine, preset.size, spacing_mm, preset.axes)
    with looks.stages.time("paste"):
        offsets = surface_regions(mask, lattice)
    start = StartMask(mask, "answer", 1, "")
    for offset in offsets:
        start = replace(start, mask=_looked_at(looks, shifted(lattice, offset), start, told, threshold))
    for click in told:
        start.mask[click.ijk] = True
    return start.mask, len(offsets)


def finest_spacing_mm(looks: Looks, preset: RoiPreset) -> float:
    """Of voxels, mm: the preset's, or the image's own where that is coarser."""
    return max(preset.spacing_mm, float(spacing_of(looks.volume.affine).min()))


def _looked_at(looks: Looks, region: Roi, start: StartMask, told: Sequence[Click], threshold: float) -> Mask:
    """The mask with what one region changes of it."""
    time = looks.stages.time
    held = [click for click in told if region.holds(click)]
    with time("paste"):
        before = start.logits(region)
        place = None if held else deepest_in(before, region, 0.5)
        shown = held or ([] if place is None else [place])
    if not shown:
        return start.mask
    # A mask has no probabilities: 0 is its border, and the network's logits are counted from their level.
    level = float(np.log(threshold / (1 - threshold)))
    asked = looks(region, shown, before)
    with time("paste"):
        seen = torch.clamp(asked[1] - asked[0] - level, BACKGROUND, -BACKGROUND)
        inside = _core(region)
        one, other = ((logit > 0)[inside] for logit in (seen, before))
        if 2 * int((one & other).sum()) < AGREES * int(one.sum() + other.sum()):
            return start.mask
        support = near_surface(before, 0.5, round(BAND_MM / region.spacing_mm)) & inside
        after = torch.where(support, (seen + before) / 2, before)
        pieces = unclicked((after > 0).numpy(), support.numpy(), region.clicks_to_dhw(held).reshape(-1, 3))
        # A piece that hangs on nothing is none of the structure.
        after = torch.where(torch.from_numpy(pieces), before.clamp(max=-1.0), after)
        return correct_mask([Part(region, after - before)], start).astype(bool, order="F")


def surface_regions(mask: Mask, lattice: Roi) -> list[Offset]:
    """Where the regions lie that hold most of a mask's surface, at most `REGIONS`, each half a side from the next.

    Args:
        mask: (i, j, k).
        lattice: one region; the others begin at multiples of half its side from it.

    Returns:
        Offsets from it, voxels; those with most surface first.
    """
    half = lattice.size_dhw[0] // 2
    cells = np.floor(lattice.ijk_to_dhw(_surface(mask, lattice.spacing_mm, lattice.affine)) / half).astype(int)
    kinds, numbers = np.unique(cells, axis=0, return_counts=True)
    left = Counter({as_offset(cell): int(number) for cell, number in zip(kinds, numbers, strict=True)})
    least = WORTHWHILE * left.total()
    corners = list(itertools.product((0, 1), repeat=3))
    chosen: list[Offset] = []
    while left and len(chosen) < REGIONS:
        begins = {as_offset(np.subtract(cell, corner)) for cell in left for corner in corners}
        held = {begin: [as_offset(np.add(begin, corner)) for corner in corners] for begin in begins}
        best = max(sorted(held), key=lambda begin: sum(left[cell] for cell in held[begin]))
        if sum(left[cell] for cell in held[best]) < least:
            break
        chosen.append(as_offset(np.multiply(best, half)))
        for cell in held[best]:
            left.pop(cell, None)
    return chosen


def _surface(mask: Mask, spacing_mm: float, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) indices i, j, k of voxels of a mask that lie on its surface, no denser than the spacing."""
    boxes = find_objects(mask.view(np.uint8))
    if not boxes:
        return np.zeros((0, 3))
    step = np.maximum(1, spacing_mm // spacing_of(affine)).astype(int)
    box = mask[tuple(slice(side.start, side.stop, n) for side, n in zip(boxes[0], step, strict=True))]
    low = np.array([side.start for side in boxes[0]])
    return np.argwhere(box & ~binary_erosion(box)) * step + low


def _core(region: Roi) -> Tensor:
    """(D, H, W) bool: a region without the margin in which the network sees too little around."""
    core = torch.zeros(region.size_dhw, dtype=torch.bool)
    less = int(MARGIN * region.size_dhw[0])
    core[(slice(less, -less),) * 3] = True
    return core
