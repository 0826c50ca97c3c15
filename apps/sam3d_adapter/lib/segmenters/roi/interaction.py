"""From the initial prediction to the answer to all clicks: each click changes the answer around it alone.

A request lists foreground clicks and background clicks, but does not say in which order the two kinds were set. So each
kind has a chain of its own: a click corrects what follows from the initial prediction and the earlier clicks of its
kind, within its influence radius. Each voxel takes the answer of the chain of the click that is nearest to it. The
initial prediction is that for the first click, or for a box, or a mask prompt. A foreground click far outside what its
chain has so far may open it anew: then all foreground clicks up to it are predicted together, at a wider zoom level.

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
from lib.segmenters.roi.clicked_component import far_outside
from lib.segmenters.roi.correction import (
    CorrectionContext,
    Obeyed,
    contradicting,
    correct,
    correct_mask_prompt,
    may_correct,
)
from lib.segmenters.roi.initial_prediction import InitialPrediction, opened_anew
from lib.segmenters.roi.prediction import MAX_ENCODES, RoiPredictions
from lib.segmenters.roi.settings import RoiSettings

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
        added: (D, H, W) bool, the voxels that it adds to the mask.
        obeyed: its clicks that the network was shown, and whether it obeyed them.
    """

    offset: Offset
    change: Tensor
    added: Tensor
    obeyed: Obeyed

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return self.change.nbytes + self.added.nbytes


@dataclass(frozen=True)
class InteractionResult:
    """The answer to all clicks, as logit patches that `lib.geometry.paste` adds up.

    Attributes:
        initial: what the clicks corrected.
        patches: the initial prediction (none with a mask prompt), then the corrections.
        obeyed: for each click, whether the network itself obeyed it.
        logit: (D, H, W) foreground logit of the answer on the first region's grid, at the spacing of the initial
            prediction. Where corrections of both kinds meet, both are added.
    """

    initial: InitialPrediction
    patches: tuple[LogitPatch, ...]
    obeyed: dict[Click, bool]
    logit: Floats


def answer_interaction(
    predictions: RoiPredictions,
    settings: RoiSettings,
    initial: InitialPrediction,
    clicks: Sequence[Click],
    threshold: float,
) -> InteractionResult:
    """The answer to all clicks.

    Args:
        predictions: of the image.
        settings: size, axes and spacings of the zoom levels.
        initial: what they correct.
        clicks: of both kinds, each kind in its order. The first foreground click is that of the initial prediction,
            unless that one is a pseudo-click.
        threshold: foreground probability.
    """
    foreground, background = ([click for click in clicks if click.is_foreground == sign] for sign in (True, False))
    chain = None
    while chain is None:
        corrections = _Corrections(predictions, settings, initial, threshold)
        chain = corrections(foreground)
        initial = corrections.initial
    patches: list[LogitPatch] = []
    obeyed: dict[Click, bool] = {}
    if initial.first is not None:
        patches.append(initial.first.patch)
        obeyed |= zip(initial.told, initial.first.obeyed, strict=True)
    logit = corrections.initial_at((0, 0, 0)).copy()
    for step, correction in (*chain, *(corrections(background) or ())):
        obeyed |= correction.obeyed
        if correction.change.numel():
            _put(logit, (0, 0, 0), correction.change.numpy(), correction.offset, add=True)
            roi = shifted(initial.roi, correction.offset, as_offset(correction.change.shape))
            patches.append(LogitPatch(roi, correction.change, step.clicks, tuple(clicks)))
    # A click without a prediction already had what it asks for. Only with a mask prompt can that be a foreground click.
    unasked = initial.start is not None
    return InteractionResult(
        initial,
        tuple(patches),
        {click: obeyed.get(click, unasked or not click.is_foreground) for click in clicks},
        logit,
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


class _Corrections:
    """The corrections of one request, by clicks of one kind.

    Args: see `answer_interaction`.

    Attributes:
        initial: what they correct; another one once a click opened it anew.
    """

    def __init__(
        self, predictions: RoiPredictions, settings: RoiSettings, initial: InitialPrediction, threshold: float
    ) -> None:
        self._predictions, self._settings, self.initial = predictions, settings, initial
        # A mask has no probabilities: 0 is its border, and the network's logits are counted from their level.
        self._threshold = threshold if initial.start is None else 0.5
        self._level = 0.0 if initial.start is None else math.log(threshold / (1 - threshold))
        self._initials: dict[Offset, Floats] = {}

    def __call__(self, clicks: Sequence[Click]) -> list[tuple[Step, Correction]] | None:
        """Each step and what it changes; None where one opens the initial prediction anew.

        Args:
            clicks: all of one kind.
        """
        initial = self.initial
        chain: list[tuple[Step, Correction]] = []
        # Each kind may predict as many regions; clicks elsewhere are only enforced.
        regions, room = initial.regions, (MAX_ENCODES - len(initial.regions)) // 2
        for step in _steps(initial, [click for click in clicks if click not in initial.told]):
            region = shifted(initial.roi, step.offset).key()
            is_predicted = region in regions or len(regions) < len(initial.regions) + room
            if is_predicted:
                regions |= {region}
                if self._may_open(step) and self._is_far(step, chain):
                    so_far = (*initial.told, *step.so_far)
                    self.initial = opened_anew(
                        self._predictions, self._settings, initial, so_far, regions, self._threshold
                    )
                    if self.initial is not initial:
                        return None
            key = ("correction", initial.key, step.so_far, is_predicted)
            correction: Correction | None = self._predictions.cache.get(key)
            if correction is None:
                correction = self._new_correction(step, [earlier for _, earlier in chain], is_predicted)
                self._predictions.cache.put(key, correction)
            chain.append((step, correction))
        return chain

    def _may_open(self, step: Step) -> bool:
        is_first_click = self.initial.first is not None and self.initial.box is None
        return is_first_click and len(step.clicks) == 1 and step.clicks[0].is_foreground

    def _is_far(self, step: Step, chain: Sequence[tuple[Step, Correction]]) -> bool:
        """Whether a click lies far outside the answer of its chain so far."""
        level = math.log(self._threshold / (1 - self._threshold))
        pieces = [(self.initial_at((0, 0, 0)) > level, (0, 0, 0))]
        pieces += [(correction.added.numpy(), correction.offset) for _, correction in chain]
        return far_outside(self.initial.roi.clicks_to_dhw(step.clicks)[0], pieces)

    def _new_correction(self, step: Step, earlier: Sequence[Correction], is_predicted: bool) -> Correction:
        """The correction near the clicks of a step, from a new prediction where there may be one."""
        offset, initial = step.offset, self.initial
        roi, start, clicks = shifted(initial.roi, offset), initial.start, (*initial.told, *step.so_far)
        time = self._predictions.stages.time
        with time("paste"):
            before = self.initial_at(offset).copy()
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
            asking = [] if start is None else contradicting(context, start, self.initial_at(offset))
            if not (may_correct(context) if start is None else asking):
                return Correction(offset, torch.zeros((0, 0, 0)), torch.zeros((0, 0, 0), dtype=torch.bool), ())
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
            place, box = _changed(now - before)
            added = (now > context.level) & (before <= context.level)
            change, gained = (torch.from_numpy(np.ascontiguousarray(values[box])) for values in (now - before, added))
            return Correction(as_offset(np.add(offset, place)), change, gained, obeyed)

    def _ask(self, roi: Roi, shown: Sequence[Click], before: Floats, offset: Offset) -> Floats:
        # Only the first region is sure to hold the box.
        box = None if any(offset) else self.initial.box
        seen = self._predictions(roi, shown, torch.from_numpy(np.clip(before, BACKGROUND, -BACKGROUND)), box)
        return torch.clamp(seen[1] - seen[0] - self._level, BACKGROUND, -BACKGROUND).numpy()

    def initial_at(self, offset: Offset) -> Floats:
        """The initial logit in the region at an offset."""
        if offset not in self._initials:
            first, start, roi = self.initial.first, self.initial.start, self.initial.roi
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


def _changed(change: Floats) -> tuple[Offset, tuple[slice, ...]]:
    """The first voxel of the smallest box that holds every change, and the box."""
    where = np.argwhere(change)
    if not len(where):
        return (0, 0, 0), (slice(0),) * 3
    low, high = where.min(axis=0), where.max(axis=0) + 1
    return as_offset(low), tuple(slice(a, b) for a, b in zip(low, high, strict=True))
