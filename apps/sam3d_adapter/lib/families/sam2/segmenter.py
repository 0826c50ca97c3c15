"""The segmenter of SAM 2: prompts in slices, answered one slice after the other and tracked through all others."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sam2.modeling.sam2_base import SAM2Base

from lib.answer_warnings import answer_warning
from lib.families.sam2.interaction import Layers, answer_interaction
from lib.families.sam2.propagation import EMPTY, SliceFeatures, SlicePrompts, Track, Tracker, by_slice, encode_slice
from lib.families.sam2.settings import SliceSettings
from lib.families.sam2.slices import Slices
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.prompts.reading import ClickError, PromptError
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import Capabilities, LoadedModel, Options, Segmentation, Stages
from lib.volumes.volume import Volume

GAP = (
    "The mask has a gap: slices {gaps} (counted from 0) are empty, and there is mask on both sides. Click on the "
    "structure in one of them, or delete the part that does not belong to it."
)


@dataclass(frozen=True)
class KeptFeatures:
    """Features of a slice in the cache.

    Attributes:
        seen: what the encoder gave.
    """

    seen: SliceFeatures

    @property
    def nbytes(self) -> int:
        """Bytes of the features; the position encodings are the same for all slices."""
        return sum(level.nbytes for level in self.seen.features)


class Sam2Segmenter:
    """Answers prompts with SAM 2.

    Args:
        loaded: a `SAM2Base` on its device.
        settings: of the preset.
        label: name of the one structure that it segments.
        cache: of the process.
    """

    capabilities = Capabilities(frozenset({"click", "box"}), background_clicks=True, sees="slices")
    precision = "fp32"

    def __init__(self, loaded: LoadedModel, settings: SliceSettings, label: str, cache: SegmenterCache) -> None:
        self._loaded, self._settings, self._label, self._cache = loaded, settings, label, cache

    def segment(self, image: Volume, prompts: Prompts, options: Options, stages: Stages) -> Segmentation:
        """As `Segmenter.segment`.

        Raises:
            ClickError: neither a foreground click nor a box.
            PromptError: a mask to start from.
        """
        if prompts.mask is not None:
            raise PromptError("This preset reads no earlier mask; leave it out.")
        if not prompts.foreground and prompts.box is None:
            raise ClickError("A foreground click or a box is needed; got none. Click on the structure.")
        model: SAM2Base = self._loaded.model
        slices = Slices(image, self._settings, model.image_size)
        features = _Features(self._loaded, slices, self._cache, self._key(image), stages)
        tracker = Tracker(model, self._loaded.lock, features, len(slices), stages)
        boxes = () if prompts.box is None else (prompts.box,)

        def ask(clicks: Sequence[Click]) -> Track:
            return self._track(tracker, self._key(image), prompted_slices(slices, Prompts((*boxes, *clicks))))

        found = answer_interaction(ask, slices, bool(boxes), prompts.clicks, options.threshold)
        with stages.time("paste"):
            mask, own = self._mask(image, slices, found, prompts, options.threshold)
        return Segmentation(
            mask=mask,
            labels={self._label: 1},
            used=prompts,
            obeyed=own,
            encodes=features.encodes,
            decodes=tracker.steps,
            details={"slices": {"axis": "ijk"[slices.axis], "tracked": len(found)}},
            warnings=_warn_of_gaps(mask, slices.axis),
        )

    def _key(self, image: Volume) -> Hashable:
        return (image.content_key, self._settings, self._loaded.version, str(self._loaded.device))

    def _track(self, tracker: Tracker, key: Hashable, asked: Sequence[SlicePrompts]) -> Track:
        """The object in all slices, after the prompted ones one after the other."""
        found = EMPTY
        for count in range(1, len(asked) + 1):
            step = ("track", key, tuple(asked[:count]))
            kept: Track | None = self._cache.get(step)
            if kept is None:
                kept = tracker.answer(found, asked[count - 1], self._settings.stop_after)
                self._cache.put(step, kept)
            found = kept
        return found

    def _mask(
        self, image: Volume, slices: Slices, found: Layers, prompts: Prompts, threshold: float
    ) -> tuple[NDArray[np.uint8], tuple[bool, ...]]:
        """The mask, clicked voxels as asked for, and whether the network itself gave each what it asks for."""
        level = math.log(threshold / (1 - threshold))
        mask = np.zeros(tuple(image.voxels.shape), np.uint8, order="F")
        layers = np.moveaxis(mask, slices.axis, 0)
        for number, logit in found.items():
            layers[number] = (slices.on_image(torch.from_numpy(logit)[None, None]) > level).numpy()
        obeyed = tuple(bool(mask[click.ijk]) == click.is_foreground for click in prompts.clicks)
        for click in prompts.clicks:
            mask[click.ijk] = click.is_foreground
        return mask, obeyed


class _Features:
    """Features of slices, from the cache or the encoder, one slice at a time."""

    def __init__(
        self, loaded: LoadedModel, slices: Slices, cache: SegmenterCache, key: Hashable, stages: Stages
    ) -> None:
        self._loaded, self._slices, self._cache, self._key, self._stages = loaded, slices, cache, key, stages
        self.encodes = 0

    def __call__(self, number: int) -> SliceFeatures:
        key = ("slice", self._key, number)
        kept: KeptFeatures | None = self._cache.get(key)
        if kept is None:
            with self._stages.time("resample"):
                image = self._slices.image(number).to(self._loaded.device)
            with self._loaded.lock, torch.no_grad(), self._stages.time("encode"):
                kept = KeptFeatures(encode_slice(self._loaded.model, image))
            self.encodes += 1
            self._cache.put(key, kept)
        return kept.seen


def prompted_slices(slices: Slices, prompts: Prompts) -> list[SlicePrompts]:
    """The prompts by slice, in the order in which the slices are answered.

    First the middle slice of a box, then the slices of the foreground clicks, then those of background clicks alone:
    requests do not say which of the two kinds came when.
    """
    points = [(*slices.place(click.ijk), int(click.is_foreground)) for click in prompts.clicks]
    if prompts.box is not None:
        number, corners = _box_in_slice(slices, prompts.box)
        points = [(number, corner, label) for corner, label in zip(corners, (2, 3), strict=True)] + points
    return by_slice(points)


def _box_in_slice(slices: Slices, box: Box) -> tuple[int, list[tuple[float, float]]]:
    """The slice in the middle of a box, and the box's corners in it: the outer corners of its outermost voxels."""
    middle = (box.first[slices.axis] + box.last[slices.axis]) // 2
    step = [slices.pixels / voxels / 2 for voxels in reversed(slices.shape)]
    ends = (slices.place(corner)[1] for corner in (box.first, box.last))
    return middle, [(x + side * step[0], y + side * step[1]) for (x, y), side in zip(ends, (-1, 1), strict=True)]


def _warn_of_gaps(mask: NDArray[np.uint8], axis: int) -> tuple[str, ...]:
    held = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
    missing = sorted(set(range(held[0], held[-1])) - set(held.tolist())) if len(held) else []
    if not missing:
        return ()
    return (answer_warning("gap", GAP.format(gaps=", ".join(map(str, missing)))),)
