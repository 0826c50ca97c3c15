"""From the initial prediction to the answer to all clicks: each click changes the answer around it alone.

A request lists foreground clicks and background clicks, but does not say in which order the two kinds were set. So each
kind has a chain of its own: a click corrects what follows from the initial prediction and the earlier clicks of its
kind, within its influence radius. Each voxel takes the answer of the chain of the click that is nearest to it. The
initial prediction is that for the first clicks, or for a box, or a mask prompt.

So the order between the kinds does not matter, a further click changes nothing beyond its influence radius, and leaves
the corrections of all other clicks as they are: they are cached.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lib.geometry.click_influence import Floats, influence_radius_mm, near_in_roi
from lib.geometry.paste import BACKGROUND, LogitPatch, mask_logit
from lib.geometry.roi import Roi
from lib.geometry.tiles import NEAREST, STAYS, Offset, as_offset, shifted, tile_offset
from lib.prompts.click import Click
from lib.segmenters.roi.boundary_refinement import deepest_in
from lib.segmenters.roi.correction import (
    CorrectionContext,
    Obeyed,
    contradicting,
    correct,
    correct_mask_prompt,
    may_correct,
)
from lib.segmenters.roi.initial_prediction import InitialPrediction
from lib.segmenters.roi.prediction import MAX_ENCODES, RoiPredictions

SINGLE_STEPS = 10
"""Clicks of each kind that are answered one by one; those beyond, together for each region that they lie in."""


@dataclass(frozen=True)
class Step:
    """Clicks of one kind that are answered together.

    Attributes:
        clicks: one click, or those beyond the tenth that share a region.
        offset: of the region, in voxels from that of the first click.
        so_far: the clicks of this kind up to this step and of this step.
    """

    clicks: tuple[Click, ...]
    offset: Offset
    so_far: tuple[Click, ...]


@dataclass(frozen=True)
class Correction:
    """What one step changes.

    Attributes:
        offset: of its first voxel, in voxels from the first click's region.
        change: (D, H, W), to be added to the logit near its clicks.
        obeyed: its clicks that the network was shown, and whether it obeyed them.
    """

    offset: Offset
    change: Tensor
    obeyed: Obeyed

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.change.nbytes


@dataclass(frozen=True)
class InteractionResult:
    """The answer to all clicks, as logit patches that `lib.geometry.paste` adds up.

    Attributes:
        patches: the initial prediction (none with a mask prompt), then the corrections.
        obeyed: for each click, whether the network itself obeyed it.
    """

    patches: tuple[LogitPatch, ...]
    obeyed: dict[Click, bool]


def answer_interaction(
    predictions: RoiPredictions, initial: InitialPrediction, clicks: Sequence[Click], threshold: float
) -> InteractionResult:
    """The answer to all clicks.

    Args:
        predictions: of the image.
        initial: what they correct.
        clicks: of both kinds, each kind in its order. The first foreground click is that of the initial prediction,
            unless that one is a pseudo-click.
        threshold: foreground probability.
    """
    patches: list[LogitPatch] = []
    obeyed: dict[Click, bool] = {}
    if initial.first is not None:
        patches.append(initial.first.patch)
        obeyed |= zip(initial.told, initial.first.obeyed, strict=True)
    corrections = _Corrections(predictions, initial, threshold)
    for sign in (True, False):
        kind = [click for click in clicks if click.is_foreground == sign and click not in initial.told]
        for step, correction in corrections(kind):
            obeyed |= correction.obeyed
            if correction.change.numel():
                roi = shifted(initial.roi, correction.offset, as_offset(correction.change.shape))
                patches.append(LogitPatch(roi, correction.change, step.clicks, tuple(clicks)))
    # A click without a prediction already had what it asks for. Only with a mask prompt can that be a foreground click.
    unasked = initial.start is not None
    return InteractionResult(
        tuple(patches), {click: obeyed.get(click, unasked or not click.is_foreground) for click in clicks}
    )


def _steps(initial: InitialPrediction, clicks: Sequence[Click]) -> list[Step]:
    stays = STAYS if initial.start is None else NEAREST
    steps = [
        Step((click,), tile_offset(initial.roi, click, stays), tuple(clicks[: n + 1]))
        for n, click in enumerate(clicks[:SINGLE_STEPS])
    ]
    beyond: dict[Offset, list[Click]] = {}
    for click in clicks[SINGLE_STEPS:]:
        beyond.setdefault(tile_offset(initial.roi, click, stays), []).append(click)
    for offset, some in beyond.items():
        steps.append(Step(tuple(some), offset, (*steps[-1].so_far, *some)))
    return steps


def _predicted_tiles(steps: Sequence[Step], initial: InitialPrediction) -> set[Offset]:
    """The regions that are predicted because of clicks of one kind; clicks elsewhere are only enforced."""
    wanted = list(dict.fromkeys(step.offset for step in steps))
    seen = {offset for offset in wanted if shifted(initial.roi, offset).key() in initial.regions}
    room = (MAX_ENCODES - len(initial.regions)) // 2
    return seen | set([offset for offset in wanted if offset not in seen][:room])


class _Corrections:
    """The corrections of one request; called with all clicks of one kind but those of the initial prediction.

    Args: see `answer_interaction`.
    """

    def __init__(self, predictions: RoiPredictions, initial: InitialPrediction, threshold: float) -> None:
        self._predictions, self._initial = predictions, initial
        # A mask has no probabilities: 0 is its border, and the network's logits are counted from their level.
        self._threshold = threshold if initial.start is None else 0.5
        self._level = 0.0 if initial.start is None else math.log(threshold / (1 - threshold))
        self._initials: dict[Offset, Floats] = {}

    def __call__(self, clicks: Sequence[Click]) -> list[tuple[Step, Correction]]:
        steps = _steps(self._initial, clicks)
        tiles = _predicted_tiles(steps, self._initial)
        chain: list[tuple[Step, Correction]] = []
        for step in steps:
            is_predicted = step.offset in tiles
            key = ("correction", self._initial.key, step.so_far, is_predicted)
            correction: Correction | None = self._predictions.cache.get(key)
            if correction is None:
                correction = self._new_correction(step, [earlier for _, earlier in chain], is_predicted)
                self._predictions.cache.put(key, correction)
            chain.append((step, correction))
        return chain

    def _new_correction(self, step: Step, earlier: Sequence[Correction], is_predicted: bool) -> Correction:
        """The correction near the clicks of a step, from a new prediction where there may be one."""
        offset, initial = step.offset, self._initial
        roi, start, clicks = shifted(initial.roi, offset), initial.start, (*initial.told, *step.so_far)
        time = self._predictions.stages.time
        with time("paste"):
            before = self._initial_at(offset).copy()
            for correction in earlier:
                _put(before, offset, correction.change.numpy(), correction.offset, add=True)
            pseudo = initial.told if initial.is_pseudo else ()
            context = CorrectionContext(
                roi=roi,
                new=step.clicks,
                told=tuple(click for click in clicks if roi.holds(click) and click not in pseudo),
                pseudo=tuple(click for click in pseudo if roi.holds(click)),
                support=near_in_roi(roi, step.clicks, influence_radius_mm(step.clicks)),
                before=before,
                threshold=self._threshold,
            )
            asking = [] if start is None else contradicting(context, start, self._initial_at(offset))
            if not (may_correct(context) if start is None else asking):
                return Correction(offset, torch.zeros((0, 0, 0)), ())
            shown = self._predictions.known(roi, clicks)
            if not any(click.is_foreground for click in shown):
                context = replace(context, pseudo=_deepest(context))
                shown = [*context.pseudo, *shown]
        may_ask = is_predicted and shown and shown[0].is_foreground
        predicted = self._ask(roi, shown, before, offset) if may_ask else None
        with time("paste"):
            now, obeyed = (
                correct(context, predicted) if start is None else correct_mask_prompt(context, asking, predicted)
            )
            return Correction(*_cropped(now - before, offset), obeyed)

    def _ask(self, roi: Roi, shown: Sequence[Click], before: Floats, offset: Offset) -> Floats:
        # Only the first region is sure to hold the box.
        box = None if any(offset) else self._initial.box
        seen = self._predictions(roi, shown, torch.from_numpy(np.clip(before, BACKGROUND, -BACKGROUND)), box)
        return torch.clamp(seen[1] - seen[0] - self._level, BACKGROUND, -BACKGROUND).numpy()

    def _initial_at(self, offset: Offset) -> Floats:
        """The initial logit in the region at an offset."""
        if offset not in self._initials:
            first, start, roi = self._initial.first, self._initial.start, self._initial.roi
            if start is not None:
                logit = mask_logit(start.mask, shifted(roi, offset)).numpy()
            else:
                logit = np.full(roi.size_dhw, BACKGROUND, np.float32)
            if first is not None:
                _put(logit, offset, first.logit.numpy(), (0, 0, 0), add=False)
            self._initials[offset] = logit
        return self._initials[offset]


def _deepest(context: CorrectionContext) -> tuple[Click, ...]:
    """A pseudo-click where there is no foreground click: the place deepest in the answer so far, if there is any."""
    mask = torch.from_numpy(context.before.copy())
    for click in context.new:
        if context.roi.holds(click):
            mask[context.voxel(click)] = BACKGROUND
    place = deepest_in(mask, context.roi, context.threshold)
    return () if place is None else (place,)


def _put(target: Floats, target_offset: Offset, values: Floats, offset: Offset, *, add: bool) -> None:
    """Adds values to a target, or sets it to them, where the two boxes of one grid overlap."""
    here, there = [], []
    for at, n, start, m in zip(target_offset, target.shape, offset, values.shape, strict=True):
        low, high = max(at, start), min(at + n, start + m)
        if low >= high:
            return
        here.append(slice(low - at, high - at))
        there.append(slice(low - start, high - start))
    if add:
        target[tuple(here)] += values[tuple(there)]
    else:
        target[tuple(here)] = values[tuple(there)]


def _cropped(change: Floats, offset: Offset) -> tuple[Offset, Tensor]:
    """The offset of the smallest box that holds every change, and the changes in it."""
    where = np.argwhere(change)
    if not len(where):
        return offset, torch.zeros((0, 0, 0))
    low, high = where.min(axis=0), where.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return as_offset(low + np.array(offset)), torch.from_numpy(np.ascontiguousarray(change[box]))
