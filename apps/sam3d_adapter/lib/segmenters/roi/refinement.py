"""What a user asks for with ``refine``: the answer that a dialogue begins with, finer, and the clicks around it.

Only what a dialogue begins with is looked at again. So what is seen there depends on no further click, none moves it
farther away than it reaches, and once it is seen it costs nothing.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy.ndimage import find_objects, maximum_filter

from lib.geometry.axes import spacing_of
from lib.geometry.click_influence import Mask, near_clicks, reach_of
from lib.geometry.paste import Part, paste_parts
from lib.presets import RoiPreset
from lib.prompts.click import Click
from lib.segmenters.roi.fine_boundary import BAND_MM, finest_spacing_mm, refine_surface
from lib.segmenters.roi.initial import Opening
from lib.segmenters.roi.prediction import Looks

CORRECTED_MM = 2 * BAND_MM
"""Around what clicks changed, the corrected mask counts: twice as far as the finer surface may lie from the other."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class RefinedOpening:
    """The mask that a dialogue begins with, as it was and with the finer surface, each packed to bits.

    Attributes:
        box: of the image's voxels, outside which both are empty.
        before: of the voxels in it.
        after: likewise.
        regions: how many were looked at.
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
    def packed(cls, before: Mask, after: Mask, regions: int) -> "RefinedOpening":
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


class RefineOpeningd(MapTransform):
    """Gives ``pred`` the finer surface of what the dialogue began with, except where further clicks correct it.

    Nothing is done where the opening was seen at the finest spacing already. Adds ``refined``, how many regions were
    looked at, and brings ``encodes`` and ``decodes`` up to date.

    Args:
        looks: at the image.
        preset: size, axes and spacing of the regions.
        opening: what the clicks correct.
        threshold: foreground probability.
        keys: of the mask, (i, j, k) of 0 and 1: the answer to all ``clicks``, whose first of ``parts`` is the opening.
    """

    def __init__(
        self, looks: Looks, preset: RoiPreset, opening: Opening, threshold: float, keys: KeysCollection = "pred"
    ) -> None:
        super().__init__(keys)
        self._looks, self._preset, self._opening, self._threshold = looks, preset, opening, threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        opening = self._opening
        head = None if opening.is_implied else opening.head
        further = [click for click in d["clicks"] if click != head]
        is_fine = opening.start is None and opening.roi.spacing_mm <= finest_spacing_mm(self._looks, self._preset)
        for key in self.key_iterator(d):
            d["refined"] = 0
            if is_fine:
                continue
            mask = np.asarray(d[key]) > 0
            refined = self._refined(d["parts"], head, mask if opening.start is None and not further else None)
            d["refined"] = refined.regions
            with self._looks.stages.time("paste"):
                before, after = refined.masks(mask.shape)
                if further:
                    take_corrections(after, before, mask, further, spacing_of(self._looks.volume.affine))
            d["encodes"], d["decodes"] = self._looks.encodes, self._looks.decodes
            d[key] = MetaTensor(torch.from_numpy(after.view(np.uint8)), affine=d[key].affine)
        return d

    def _refined(self, parts: Sequence[Part], head: Click | None, mask: Mask | None) -> RefinedOpening:
        """What the opening comes to; its mask, where it is at hand, need not be made anew."""
        opening, looks = self._opening, self._looks
        key = ("refined", opening.key)
        refined: RefinedOpening | None = looks.embeddings.get(key)
        if refined is None:
            with looks.stages.time("paste"):
                before = self._begun_with(parts, head) if mask is None else mask
            told = [] if head is None else [head]
            after, regions = refine_surface(looks, self._preset, opening.roi, before.copy(), told, self._threshold)
            with looks.stages.time("paste"):
                refined = RefinedOpening.packed(before, after, regions)
            looks.embeddings.put(key, refined)
        return refined

    def _begun_with(self, parts: Sequence[Part], head: Click | None) -> Mask:
        if self._opening.start is not None:
            return self._opening.start.mask
        mask = paste_parts(parts[:1], self._threshold).astype(bool)
        if head is not None:
            mask[head.ijk] = True
        return mask


def take_corrections(
    refined: Mask, before: Mask, corrected: Mask, further: Sequence[Click], spacing: NDArray[np.float64]
) -> None:
    """Gives a refined mask what clicks correct of the one that it was made from.

    Around every voxel that they changed, and around clicks that the refined mask alone does not obey, it becomes the
    corrected mask; but nowhere farther from a click than clicks reach.

    Args:
        refined: (i, j, k), changed in place.
        before: the mask that it was made from.
        corrected: that mask corrected by the clicks, which obeys them.
        further: the clicks, at least one.
        spacing: of the voxels along i, j and k, mm.
    """
    places = np.array([click.ijk for click in further])
    reach = np.ceil(max(reach_of([click]) for click in further) / spacing).astype(int)
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
            near |= near_clicks(axes_mm, np.array([click.ijk for click in kind]) * spacing, reach_of(kind))
    np.copyto(refined[box], corrected[box], where=around & near)
