"""From the opening to the answer to all clicks: each one changes the answer around it alone, in any order.

A request holds a list of foreground clicks and one of background clicks, and not which came when. So the answer A is
defined on pairs of how many of each list are given, and every list that grows by a click is one step on that lattice:

- At its corner lies the opening: the answer to the first foreground click, A(1, 0), or to a box and that click; or a
  mask that the user started from, A(0, 0).
- Elsewhere A(i, j) differs from A(i - 1, j) around foreground click i alone, and from A(i, j - 1) around background
  click j alone. Where only one of the two may differ, that leaves no choice. Where both may, the network decides, told
  of all i + j clicks and of the answer that follows from the others.

Hence the answer is a sum: the opening, and a patch for each pair, which counts only where both clicks reach. A further
click adds one row or column of patches and leaves the others as they are, which is why they are kept.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lib.geometry.click_influence import Floats, near_in_roi, reach_of
from lib.geometry.paste import BACKGROUND, Part
from lib.geometry.roi import Roi
from lib.geometry.tiles import NEAREST, STAYS, Offset, as_offset, shifted, tile_offset
from lib.prompts.click import Click
from lib.prompts.mask_prompt import StartMask, deepest
from lib.segmenters.roi.correction import Obeyed, Spot, correct, may_correct
from lib.segmenters.roi.initial import Opening
from lib.segmenters.roi.mask_correction import contradicting, correct_start
from lib.segmenters.roi.prediction import Looks

SINGLE_STEPS = 10
"""Clicks of each kind that are answered one by one; those beyond, together for each region that they lie in."""


@dataclass(frozen=True)
class Step:
    """Clicks of one kind that are answered together.

    Attributes:
        clicks: one, or those beyond the tenth in one region; none in the step of an opening without a click.
        offset: of the region, in voxels from that of the first click.
        before: the clicks of this kind up to this step, it included.
    """

    clicks: tuple[Click, ...]
    offset: Offset
    before: tuple[Click, ...]


@dataclass(frozen=True)
class Patch:
    """What one pair of steps changes.

    Attributes:
        offset: of its first voxel, in voxels from the first click's region.
        change: (D, H, W), to be added to the logit near the clicks of both steps.
        obeyed: those of its steps' clicks that the network was told of, and whether it obeyed them.
    """

    offset: Offset
    change: Tensor
    obeyed: Obeyed

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.change.nbytes


@dataclass(frozen=True)
class DialogueAnswer:
    """The answer to all clicks, as what `PartsToImaged` takes.

    Attributes:
        parts: the opening's answer, if it is one of the network, then the patches.
        obeyed: for each click whether the network itself obeyed it.
    """

    parts: tuple[Part, ...]
    obeyed: dict[Click, bool]


def hold_dialogue(looks: Looks, opening: Opening, clicks: Sequence[Click], threshold: float) -> DialogueAnswer:
    """The answer to all clicks.

    Args:
        looks: at the image.
        opening: what they correct.
        clicks: of both kinds, each kind in its order; its head, where it is the user's, is the first foreground click.
        threshold: foreground probability.
    """
    foreground = [click for click in clicks if click.is_foreground]
    background = [click for click in clicks if not click.is_foreground]
    stays = STAYS if opening.start is None else NEAREST
    if opening.is_implied and opening.head is not None:
        foreground = [opening.head]
    rows = _steps(opening.roi, foreground, stays)
    if opening.head is None:
        rows = [Step((), (0, 0, 0), ()), *rows]
    return _Lattice(looks, opening, rows, _steps(opening.roi, background, stays), threshold).answer(clicks)


def _steps(roi: Roi, clicks: Sequence[Click], stays: float) -> list[Step]:
    steps = [
        Step((click,), tile_offset(roi, click, stays), tuple(clicks[: n + 1]))
        for n, click in enumerate(clicks[:SINGLE_STEPS])
    ]
    beyond: dict[Offset, list[Click]] = {}
    for click in clicks[SINGLE_STEPS:]:
        beyond.setdefault(tile_offset(roi, click, stays), []).append(click)
    for offset, some in beyond.items():
        steps.append(Step(tuple(some), offset, (*steps[-1].before, *some)))
    return steps


def _first_tiles(steps: Sequence[Step], opening: Opening) -> set[Offset]:
    """The regions that are looked at because of clicks of one kind; what is clicked beyond is obeyed alone."""
    seen = {(0, 0, 0)} if opening.first is not None else set[Offset]()
    wanted = dict.fromkeys(step.offset for step in steps if step.clicks and step.offset not in seen)
    return seen | set(list(wanted)[: opening.tiles])


class _Lattice:
    """One request's lattice; see the module.

    Args: see `hold_dialogue`; both kinds in steps, the foreground's from that of the opening on.
    """

    def __init__(
        self,
        looks: Looks,
        opening: Opening,
        foreground: Sequence[Step],
        background: Sequence[Step],
        threshold: float,
    ) -> None:
        self._looks, self._opening = looks, opening
        self._foreground, self._background = foreground, background
        # A mask has no probabilities: 0 is its border, and the network's logits are counted from their level.
        self._threshold = threshold if opening.start is None else 0.5
        self._level = 0.0 if opening.start is None else math.log(threshold / (1 - threshold))
        # One for each kind: what is looked at because of one kind must not depend on clicks of the other.
        self._looked_at = [_first_tiles(kind, opening) for kind in (foreground, background)]
        self._patches: dict[tuple[int, int], Patch] = {}
        self._openings: dict[Offset, Floats] = {}

    def answer(self, clicks: Sequence[Click]) -> DialogueAnswer:
        """Every pair in lexical order, in which patches are also summed up: far from a click no sum is another."""
        opening = self._opening
        obeyed: dict[Click, bool] = {}
        parts = []
        if opening.first is not None:
            parts.append(opening.first.part)
            if opening.head is not None and not opening.is_implied:
                obeyed[opening.head] = opening.first.obeyed
        for pair in itertools.product(range(len(self._foreground)), range(len(self._background) + 1)):
            steps = self._steps_of(*pair)
            if not steps:
                continue
            patch = self._patches[pair] = self._patch(pair, steps)
            # Once disobeyed, always: later the answer so far holds what was enforced.
            obeyed |= {click: obeyed.get(click, True) and good for click, good in patch.obeyed}
            if patch.change.numel():
                roi = shifted(opening.roi, patch.offset, as_offset(patch.change.shape))
                parts.append(Part(roi, patch.change, tuple(step.clicks for step in steps)))
        # Where nothing had to be asked, a click has what it asks for; but foreground clicks are asked about always,
        # unless the mask was the user's.
        unasked = opening.start is not None
        return DialogueAnswer(
            tuple(parts), {click: obeyed.get(click, unasked or not click.is_foreground) for click in clicks}
        )

    def _steps_of(self, i: int, j: int) -> list[Step]:
        """The steps near whose clicks the pair may differ from its neighbours; none for the opening."""
        return [*([self._foreground[i]] if i else []), *([self._background[j - 1]] if j else [])]

    def _patch(self, pair: tuple[int, int], steps: Sequence[Step]) -> Patch:
        i, j = pair
        offset = steps[-1].offset
        looked_at = offset in self._looked_at[bool(j)]
        clicks = (*self._foreground[i].before, *(self._background[j - 1].before if j else ()))
        key = ("patch", self._opening.key, clicks, looked_at)
        patch: Patch | None = self._looks.embeddings.get(key)
        if patch is None:
            patch = self._new_patch(pair, steps, offset, clicks, looked_at)
            self._looks.embeddings.put(key, patch)
        return patch

    def _new_patch(
        self, pair: tuple[int, int], steps: Sequence[Step], offset: Offset, clicks: Sequence[Click], looked_at: bool
    ) -> Patch:
        """What is corrected near the clicks of the steps, by the network where it can be asked."""
        roi, start = shifted(self._opening.roi, offset), self._opening.start
        time = self._looks.stages.time
        with time("paste"):
            before = self._without(pair, offset)
            near = (near_in_roi(roi, step.clicks, reach_of(step.clicks)) for step in steps)
            implied = [self._opening.head] if self._opening.is_implied and self._opening.head else []
            spot = Spot(
                roi=roi,
                new=tuple(click for step in steps for click in step.clicks),
                told=tuple(click for click in clicks if roi.holds(click) and click not in implied),
                implied=tuple(click for click in implied if roi.holds(click)),
                support=functools.reduce(np.logical_and, near),
                before=before,
                threshold=self._threshold,
            )
            asking = [] if start is None else contradicting(spot, start, self._opening_at(offset))
            if not (may_correct(spot) if start is None else asking):
                return Patch(offset, torch.zeros((0, 0, 0)), ())
            shown = self._looks.known(roi, clicks)
            if start is not None and not any(click.is_foreground for click in shown):
                spot = replace(spot, implied=self._place_in(start, roi, clicks, steps[-1].clicks[0]))
                shown = [*spot.implied, *shown]
        may_ask = looked_at and shown and shown[0].is_foreground
        asked = self._ask(roi, shown, before, offset) if may_ask else None
        with time("paste"):
            now, obeyed = correct(spot, asked) if start is None else correct_start(spot, asking, asked)
            return Patch(*_cropped(now - before, offset), obeyed)

    def _place_in(self, start: StartMask, roi: Roi, clicks: Sequence[Click], new: Click) -> tuple[Click, ...]:
        """What stands for a foreground click where there is none: a place deep in the mask, near the new click."""
        reach_mm = NEAREST * roi.size_dhw[0] * roi.spacing_mm
        place = deepest(start.mask, self._looks.volume.affine, (new, *clicks), reach_mm)
        return (place,) if place is not None and roi.holds(place) else ()

    def _ask(self, roi: Roi, shown: Sequence[Click], before: Floats, offset: Offset) -> Floats:
        # The box is known to lie in the first region alone.
        box = None if any(offset) else self._opening.box
        seen = self._looks(roi, shown, torch.from_numpy(np.clip(before, BACKGROUND, -BACKGROUND)), box)
        return torch.clamp(seen[1] - seen[0] - self._level, BACKGROUND, -BACKGROUND).numpy()

    def _without(self, pair: tuple[int, int], offset: Offset) -> Floats:
        """The logit that follows from the opening and the other pairs, in the region at an offset."""
        logit = self._opening_at(offset).copy()
        for (i, j), patch in self._patches.items():
            if i <= pair[0] and j <= pair[1]:
                _put(logit, offset, patch.change.numpy(), patch.offset, add=True)
        return logit

    def _opening_at(self, offset: Offset) -> Floats:
        """The opening's logit in the region at an offset."""
        if offset not in self._openings:
            first, start, roi = self._opening.first, self._opening.start, self._opening.roi
            if start is not None:
                logit = start.logits(shifted(roi, offset)).numpy()
            else:
                logit = np.full(roi.size_dhw, BACKGROUND, np.float32)
            if first is not None:
                _put(logit, offset, first.logit.numpy(), (0, 0, 0), add=False)
            self._openings[offset] = logit
        return self._openings[offset]


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
    """The smallest box that holds every change, and its place."""
    where = np.argwhere(change)
    if not len(where):
        return offset, torch.zeros((0, 0, 0))
    low, high = where.min(axis=0), where.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return as_offset(low + np.array(offset)), torch.from_numpy(np.ascontiguousarray(change[box]))
