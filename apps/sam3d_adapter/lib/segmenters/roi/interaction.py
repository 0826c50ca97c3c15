"""From the initial prediction to the answer to all clicks: each click changes the answer around it alone, in any order.

A request lists foreground clicks and background clicks, but does not say in which order the two kinds were set. So the
answer A(i, j) is defined for the first i foreground and the first j background clicks:

- It starts from the initial prediction. That is A(1, 0) for the first foreground click, or for a box and that click. It
  is A(0, 0) for a mask prompt.
- A(i, j) differs from A(i - 1, j) only around foreground click i, and from A(i, j - 1) only around background click j.
  Where only one of the two may differ, this determines A(i, j). Where both may differ, the network decides: it is shown
  all i + j clicks and the answer that follows from the others.

So the answer is a sum: the initial prediction, and for each pair (i, j) a correction, which counts only near both
clicks. A further click adds one row or column of corrections and leaves the others unchanged, so they are cached.
"""

import functools
import itertools
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
from lib.prompts.mask import MaskPrompt
from lib.segmenters.roi.correction import (
    CorrectionContext,
    Obeyed,
    contradicting,
    correct,
    correct_mask_prompt,
    may_correct,
)
from lib.segmenters.roi.initial_prediction import InitialPrediction
from lib.segmenters.roi.prediction import RoiPredictions
from lib.segmenters.roi.pseudo_click import deepest

SINGLE_STEPS = 10
"""Clicks of each kind that are answered one by one; those beyond, together for each region that they lie in."""


@dataclass(frozen=True)
class Step:
    """Clicks of one kind that are answered together.

    Attributes:
        clicks: one click, or those beyond the tenth that share a region; none in the first step with a mask prompt.
        offset: of the region, in voxels from that of the first click.
        before: the clicks of this kind up to this step and of this step.
    """

    clicks: tuple[Click, ...]
    offset: Offset
    before: tuple[Click, ...]


@dataclass(frozen=True)
class Correction:
    """What one pair of steps changes.

    Attributes:
        offset: of its first voxel, in voxels from the first click's region.
        change: (D, H, W), to be added to the logit near the clicks of both steps.
        obeyed: the clicks of its steps that the network was shown, and whether it obeyed them.
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
    foreground = [click for click in clicks if click.is_foreground and click not in initial.told]
    background = [click for click in clicks if not click.is_foreground]
    stays = STAYS if initial.start is None else NEAREST
    rows = [Step((), (0, 0, 0), initial.told), *_steps(initial.roi, foreground, stays, initial.told)]
    return _Lattice(predictions, initial, rows, _steps(initial.roi, background, stays), threshold).answer(clicks)


def _steps(roi: Roi, clicks: Sequence[Click], stays: float, told: tuple[Click, ...] = ()) -> list[Step]:
    steps = [
        Step((click,), tile_offset(roi, click, stays), (*told, *clicks[: n + 1]))
        for n, click in enumerate(clicks[:SINGLE_STEPS])
    ]
    beyond: dict[Offset, list[Click]] = {}
    for click in clicks[SINGLE_STEPS:]:
        beyond.setdefault(tile_offset(roi, click, stays), []).append(click)
    for offset, some in beyond.items():
        steps.append(Step(tuple(some), offset, (*steps[-1].before, *some)))
    return steps


def _first_tiles(steps: Sequence[Step], initial: InitialPrediction) -> set[Offset]:
    """The regions that are predicted because of clicks of one kind; clicks elsewhere are only enforced."""
    seen = {(0, 0, 0)} if initial.first is not None else set[Offset]()
    wanted = dict.fromkeys(step.offset for step in steps if step.clicks and step.offset not in seen)
    return seen | set(list(wanted)[: initial.tiles])


class _Lattice:
    """One request's lattice; see the module.

    Args: see `answer_interaction`; clicks come in steps, and the first foreground step is the initial prediction.
    """

    def __init__(
        self,
        predictions: RoiPredictions,
        initial: InitialPrediction,
        foreground: Sequence[Step],
        background: Sequence[Step],
        threshold: float,
    ) -> None:
        self._predictions, self._initial = predictions, initial
        self._foreground, self._background = foreground, background
        # A mask has no probabilities: 0 is its border, and the network's logits are counted from their level.
        self._threshold = threshold if initial.start is None else 0.5
        self._level = 0.0 if initial.start is None else math.log(threshold / (1 - threshold))
        # One for each kind: what is predicted because of one kind must not depend on clicks of the other.
        self._predicted_tiles = [_first_tiles(kind, initial) for kind in (foreground, background)]
        self._corrections: dict[tuple[int, int], Correction] = {}
        self._initials: dict[Offset, Floats] = {}

    def answer(self, clicks: Sequence[Click]) -> InteractionResult:
        """All pairs in lexical order: a fixed order of summands keeps the answer far from a click bit for bit."""
        initial = self._initial
        obeyed: dict[Click, bool] = {}
        patches = []
        if initial.first is not None:
            patches.append(initial.first.patch)
            obeyed |= dict(zip(initial.told, initial.first.obeyed, strict=True))
        for pair in itertools.product(range(len(self._foreground)), range(len(self._background) + 1)):
            steps = self._steps_of(*pair)
            if not steps:
                continue
            correction = self._corrections[pair] = self._correction(pair, steps)
            # A click that was disobeyed once stays so: later, the answer so far holds what was enforced.
            obeyed |= {click: obeyed.get(click, True) and good for click, good in correction.obeyed}
            if correction.change.numel():
                roi = shifted(initial.roi, correction.offset, as_offset(correction.change.shape))
                patches.append(LogitPatch(roi, correction.change, tuple(step.clicks for step in steps)))
        # A click without a prediction already had what it asks for. Only with a mask prompt can that be a foreground
        # click.
        unasked = initial.start is not None
        return InteractionResult(
            tuple(patches), {click: obeyed.get(click, unasked or not click.is_foreground) for click in clicks}
        )

    def _steps_of(self, i: int, j: int) -> list[Step]:
        """The steps whose clicks the pair may change something near; none for the initial prediction."""
        return [*([self._foreground[i]] if i else []), *([self._background[j - 1]] if j else [])]

    def _correction(self, pair: tuple[int, int], steps: Sequence[Step]) -> Correction:
        i, j = pair
        offset = steps[-1].offset
        is_predicted = offset in self._predicted_tiles[bool(j)]
        clicks = (*self._foreground[i].before, *(self._background[j - 1].before if j else ()))
        key = ("correction", self._initial.key, clicks, is_predicted)
        correction: Correction | None = self._predictions.cache.get(key)
        if correction is None:
            correction = self._new_correction(pair, steps, offset, clicks, is_predicted)
            self._predictions.cache.put(key, correction)
        return correction

    def _new_correction(
        self, pair: tuple[int, int], steps: Sequence[Step], offset: Offset, clicks: Sequence[Click], is_predicted: bool
    ) -> Correction:
        """The correction near the clicks of the steps, from a new prediction where there may be one."""
        roi, start = shifted(self._initial.roi, offset), self._initial.start
        time = self._predictions.stages.time
        with time("paste"):
            before = self._without(pair, offset)
            near = (near_in_roi(roi, step.clicks, influence_radius_mm(step.clicks)) for step in steps)
            pseudo = self._initial.told if self._initial.is_pseudo else ()
            context = CorrectionContext(
                roi=roi,
                new=tuple(click for step in steps for click in step.clicks),
                told=tuple(click for click in clicks if roi.holds(click) and click not in pseudo),
                pseudo=tuple(click for click in pseudo if roi.holds(click)),
                support=functools.reduce(np.logical_and, near),
                before=before,
                threshold=self._threshold,
            )
            asking = [] if start is None else contradicting(context, start, self._initial_at(offset))
            if not (may_correct(context) if start is None else asking):
                return Correction(offset, torch.zeros((0, 0, 0)), ())
            shown = self._predictions.known(roi, clicks)
            if start is not None and not any(click.is_foreground for click in shown):
                context = replace(context, pseudo=self._place_in(start, roi, clicks, steps[-1].clicks[0]))
                shown = [*context.pseudo, *shown]
        may_ask = is_predicted and shown and shown[0].is_foreground
        predicted = self._ask(roi, shown, before, offset) if may_ask else None
        with time("paste"):
            now, obeyed = (
                correct(context, predicted) if start is None else correct_mask_prompt(context, asking, predicted)
            )
            return Correction(*_cropped(now - before, offset), obeyed)

    def _place_in(self, start: MaskPrompt, roi: Roi, clicks: Sequence[Click], new: Click) -> tuple[Click, ...]:
        """A pseudo-click where there is no foreground click: deep in the mask, near the new click."""
        reach_mm = NEAREST * roi.size_dhw[0] * roi.spacing_mm
        place = deepest(start.mask, self._predictions.volume.affine, (new, *clicks), reach_mm)
        return (place,) if place is not None and roi.holds(place) else ()

    def _ask(self, roi: Roi, shown: Sequence[Click], before: Floats, offset: Offset) -> Floats:
        # Only the first region is sure to hold the box.
        box = None if any(offset) else self._initial.box
        seen = self._predictions(roi, shown, torch.from_numpy(np.clip(before, BACKGROUND, -BACKGROUND)), box)
        return torch.clamp(seen[1] - seen[0] - self._level, BACKGROUND, -BACKGROUND).numpy()

    def _without(self, pair: tuple[int, int], offset: Offset) -> Floats:
        """The logit that follows from the initial prediction and the other pairs, in the region at an offset."""
        logit = self._initial_at(offset).copy()
        for (i, j), correction in self._corrections.items():
            if i <= pair[0] and j <= pair[1]:
                _put(logit, offset, correction.change.numpy(), correction.offset, add=True)
        return logit

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
