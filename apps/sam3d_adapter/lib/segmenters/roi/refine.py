"""What a user asks for with ``refine``: the initial mask with its surface predicted again at full resolution.

Only the mask that an interaction begins with is refined. So the refined surface depends on no further click, no click
changes it beyond its influence radius, and it is computed once.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion, find_objects, maximum_filter
from torch import Tensor

from lib.geometry.axes import spacing_of
from lib.geometry.click_influence import Mask, influence_radius_mm, near_clicks, unclicked
from lib.geometry.paste import BACKGROUND, LogitPatch, correct_mask, mask_logit, paste_patches
from lib.geometry.roi import Roi, roi_at
from lib.geometry.tiles import Offset, as_offset, shifted
from lib.prompts.click import Click
from lib.segmenters.roi.boundary_refinement import MARGIN, deepest_in, near_surface
from lib.segmenters.roi.initial_prediction import InitialPrediction
from lib.segmenters.roi.prediction import MAX_ENCODES, RoiPredictions
from lib.segmenters.roi.settings import RoiSettings

REGIONS = MAX_ENCODES
"""Regions at most; each costs an encode unless it is cached."""
WORTHWHILE = 1 / 50
"""Least share of the surface for which a region is predicted."""
AGREES = 0.85
"""Dice of the prediction and the mask in a region; below it, the network segmented something else, and we drop it."""
BAND_MM = 4.0
"""How far the surface may move, mm."""
CORRECTED_MM = 2 * BAND_MM
"""Distance from what clicks changed within which the corrected mask counts, mm: twice what the surface may move."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class RefinedMask:
    """The initial mask, before and after refinement, each packed to bits.

    Attributes:
        box: part of the image outside which both are empty.
        before: bits of the voxels in the box, before refinement.
        after: the same after it.
        regions: how many were predicted.
    """

    box: Box
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    regions: int

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.before.nbytes + self.after.nbytes

    @classmethod
    def packed(cls, before: Mask, after: Mask, regions: int) -> "RefinedMask":
        """Of the two masks (i, j, k)."""
        found = find_objects((before | after).view(np.uint8))
        box: Box = found[0] if found else (slice(0), slice(0), slice(0))
        return cls(box, np.packbits(before[box]), np.packbits(after[box]), regions)

    def masks(self, shape: tuple[int, ...]) -> tuple[Mask, Mask]:
        """The two masks (i, j, k) of an image of this shape."""
        size = tuple(len(range(*side.indices(n))) for side, n in zip(self.box, shape, strict=True))
        pair = []
        for bits in (self.before, self.after):
            mask = np.zeros(shape, bool, order="F")
            mask[self.box] = np.unpackbits(bits, count=int(np.prod(size))).reshape(size)
            pair.append(mask)
        return pair[0], pair[1]


def refine_mask(
    predictions: RoiPredictions,
    settings: RoiSettings,
    initial: InitialPrediction,
    patches: Sequence[LogitPatch],
    mask: Mask,
    clicks: Sequence[Click],
    threshold: float,
) -> tuple[Mask, int]:
    """A mask with the refined surface of the initial one, except where further clicks correct it.

    Args:
        predictions: of the image.
        settings: size, axes and spacing of the regions.
        initial: what the clicks correct.
        patches: of the answer to all clicks; the first one is the initial prediction.
        mask: (i, j, k), the answer to all clicks.
        clicks: all of them.
        threshold: foreground probability.

    Returns:
        The mask, and how many regions were predicted; the very mask and 0 where it has the finest spacing already.
    """
    if initial.start is None and initial.roi.spacing_mm <= finest_spacing_mm(predictions, settings):
        return mask, 0
    told = () if initial.is_pseudo else initial.told
    further = [click for click in clicks if click not in initial.told]
    known = mask if initial.start is None and not further else None
    refined = _refined(predictions, settings, initial, patches, told, known, threshold)
    with predictions.stages.time("paste"):
        before, after = refined.masks(mask.shape)
        if further:
            take_corrections(after, before, mask, further, spacing_of(predictions.volume.affine))
    return after, refined.regions


def _refined(
    predictions: RoiPredictions,
    settings: RoiSettings,
    initial: InitialPrediction,
    patches: Sequence[LogitPatch],
    told: Sequence[Click],
    mask: Mask | None,
    threshold: float,
) -> RefinedMask:
    """The initial mask and its refinement, from the cache or new; ``mask`` is the initial one, where it is known."""
    key = ("refined", initial.key)
    refined: RefinedMask | None = predictions.cache.get(key)
    if refined is None:
        with predictions.stages.time("paste"):
            before = _initial_mask(initial, patches, told, threshold) if mask is None else mask
        after, regions = refine_surface(predictions, settings, initial.roi, before.copy(), told, threshold)
        with predictions.stages.time("paste"):
            refined = RefinedMask.packed(before, after, regions)
        predictions.cache.put(key, refined)
    return refined


def _initial_mask(
    initial: InitialPrediction, patches: Sequence[LogitPatch], told: Sequence[Click], threshold: float
) -> Mask:
    if initial.start is not None:
        return initial.start.mask
    mask = paste_patches(patches[:1], threshold).astype(bool)
    for click in told:
        mask[click.ijk] = True
    return mask


def refine_surface(
    predictions: RoiPredictions, settings: RoiSettings, roi: Roi, mask: Mask, told: Sequence[Click], threshold: float
) -> tuple[Mask, int]:
    """Predicts the surface of a mask at the finest spacing, in the regions that hold most of it.

    The finest spacing is that of the settings, or the image's own where that is coarser. The prediction is averaged
    with the mask that the network is shown; either alone is worse.

    Args:
        predictions: of the image.
        settings: size, axes and spacing of the regions.
        roi: the regions lie on a lattice around its middle.
        mask: (i, j, k).
        told: foreground clicks in the mask, which stay in it. The network is shown those in a region; where there is
            none, the place that is deepest in the mask.
        threshold: foreground probability.

    Returns:
        The mask, and how many regions were predicted.
    """
    middle = roi.dhw_to_ijk([[size // 2 for size in roi.size_dhw]])[0]
    spacing_mm = finest_spacing_mm(predictions, settings)
    lattice = roi_at(middle, mask.shape, predictions.volume.affine, settings.size, spacing_mm, settings.axes)
    with predictions.stages.time("paste"):
        offsets = surface_regions(mask, lattice)
    for offset in offsets:
        mask = _refine_region(predictions, shifted(lattice, offset), mask, told, threshold)
    for click in told:
        mask[click.ijk] = True
    return mask, len(offsets)


def finest_spacing_mm(predictions: RoiPredictions, settings: RoiSettings) -> float:
    """Spacing of the regions, mm: that of the settings, or the image's own where that is coarser."""
    return max(settings.spacing_mm, float(spacing_of(predictions.volume.affine).min()))


def _refine_region(
    predictions: RoiPredictions, region: Roi, mask: Mask, told: Sequence[Click], threshold: float
) -> Mask:
    """The mask with what one region changes of it."""
    time = predictions.stages.time
    held = [click for click in told if region.holds(click)]
    with time("paste"):
        before = mask_logit(mask, region)
        place = None if held else deepest_in(before, region, 0.5)
        shown = held or ([] if place is None else [place])
    if not shown:
        return mask
    # A mask has no probabilities: 0 is its border, and the network's logits are counted from their level.
    level = float(np.log(threshold / (1 - threshold)))
    asked = predictions(region, shown, before)
    with time("paste"):
        seen = torch.clamp(asked[1] - asked[0] - level, BACKGROUND, -BACKGROUND)
        inside = _core(region)
        one, other = ((logit > 0)[inside] for logit in (seen, before))
        if 2 * int((one & other).sum()) < AGREES * int(one.sum() + other.sum()):
            return mask
        support = near_surface(before, 0.5, round(BAND_MM / region.spacing_mm)) & inside
        after = torch.where(support, (seen + before) / 2, before)
        pieces = unclicked((after > 0).numpy(), support.numpy(), region.clicks_to_dhw(held).reshape(-1, 3))
        # A piece that is not connected to the mask does not belong to the structure.
        after = torch.where(torch.from_numpy(pieces), before.clamp(max=-1.0), after)
        return correct_mask([LogitPatch(region, after - before)], mask).astype(bool, order="F")


def surface_regions(mask: Mask, lattice: Roi) -> list[Offset]:
    """Offsets of the regions that hold most of a mask's surface, at most `REGIONS`, in steps of half a side.

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


def _surface(mask: Mask, spacing_mm: float, affine: ArrayLike) -> NDArray[np.float64]:
    """(N, 3) indices i, j, k of voxels of a mask that lie on its surface, no denser than the spacing."""
    boxes = find_objects(mask.view(np.uint8))
    if not boxes:
        return np.zeros((0, 3))
    step = np.maximum(1, spacing_mm // spacing_of(affine)).astype(int)
    box = mask[tuple(slice(side.start, side.stop, n) for side, n in zip(boxes[0], step, strict=True))]
    low = np.array([side.start for side in boxes[0]])
    return np.argwhere(box & ~binary_erosion(box)) * step + low


def _core(region: Roi) -> Tensor:
    """(D, H, W) bool: a region without the margin in which the network sees too little context."""
    core = torch.zeros(region.size_dhw, dtype=torch.bool)
    less = int(MARGIN * region.size_dhw[0])
    core[(slice(less, -less),) * 3] = True
    return core


def take_corrections(
    refined: Mask, before: Mask, corrected: Mask, further: Sequence[Click], spacing: NDArray[np.float64]
) -> None:
    """Takes the clicks' corrections of the unrefined mask over into the refined one.

    The corrected mask replaces the refined one around every voxel that clicks changed, and around clicks that only the
    refined mask disobeys. It does so nowhere beyond the influence radius of the clicks.

    Args:
        refined: (i, j, k), changed in place.
        before: the mask before refinement.
        corrected: the mask before refinement, corrected by the clicks; it obeys them.
        further: the clicks, at least one.
        spacing: of the voxels along i, j and k, mm.
    """
    places = np.array([click.ijk for click in further])
    reach = np.ceil(max(influence_radius_mm([click]) for click in further) / spacing).astype(int)
    low = np.maximum(places.min(axis=0) - reach, 0)
    box = tuple(slice(a, b) for a, b in zip(low, places.max(axis=0) + reach + 1, strict=True))
    changed = before[box] != corrected[box]
    for place in places:
        at = tuple(place - low)
        changed[at] |= refined[box][at] != corrected[box][at]
    around = maximum_filter(changed, size=tuple(2 * np.ceil(CORRECTED_MM / spacing).astype(int) + 1))
    axes_mm = [np.arange(a, a + n) * mm for a, n, mm in zip(low, changed.shape, spacing, strict=True)]
    near = np.zeros_like(changed)
    for sign in (True, False):
        kind = [click for click in further if click.is_foreground == sign]
        if kind:
            near |= near_clicks(axes_mm, np.array([click.ijk for click in kind]) * spacing, influence_radius_mm(kind))
    np.copyto(refined[box], corrected[box], where=around & near)
