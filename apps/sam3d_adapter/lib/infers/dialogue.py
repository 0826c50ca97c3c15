"""From the first click's answer to that of all clicks: each one changes the answer around it alone, in any order.

A request holds a list of foreground clicks and one of background clicks, and not which came when. So the answer A is
defined on pairs of how many of each list are given, and every list that grows by a click is one step on that lattice:

- A(1, 0) is the answer to the first click.
- Elsewhere A(i, j) differs from A(i - 1, j) around foreground click i alone, and from A(i, j - 1) around background
  click j alone. Where only one of the two may differ, that leaves no choice. Where both may, the network decides, told
  of all i + j clicks and of the answer that follows from the others.

Hence the answer is a sum: the first one, and a patch for each pair, which counts only where both clicks reach. A
further click adds one row or column of patches and leaves the others as they are, which is why they are kept.
"""

import functools
import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.infers.first_view import FirstAnswer
from lib.infers.look import Looks
from lib.interaction.click import Click
from lib.interaction.roi import Roi
from lib.interaction.tiles import Offset, shifted, tile_offset
from lib.transforms.locality import REACH_MM, Floats, Mask, border_distance, near_clicks, unclicked
from lib.transforms.obey_clicks import obey
from lib.transforms.paste import BACKGROUND, Part

SINGLE_STEPS = 10
"""Clicks of each kind that are answered one by one; those beyond, together for each region that they lie in."""
MAX_TILES = (3, 2)
"""Regions beside the first one that are looked at for clicks of each kind; what is clicked beyond is obeyed alone."""
EXTENT = 2.0
"""Of what a click corrects: so many times as far as the nearest voxel that is right already. See BENCHMARKS.md."""
LEAST_MM = 10.0
"""How far a click corrects at least, mm: that border may be wrong itself."""


@dataclass(frozen=True)
class Step:
    """Clicks of one kind that are answered together.

    Attributes:
        clicks: one, or those beyond the tenth in one region.
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
        obeyed: clicks that the network was told of and that may be changed here, and whether it obeyed them.
    """

    offset: Offset
    change: Tensor
    obeyed: tuple[tuple[Click, bool], ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.change.nbytes


@dataclass(frozen=True)
class DialogueAnswer:
    """The answer to all clicks, as what `paste_sum` takes.

    Attributes:
        parts: the first click's answer, then the patches.
        obeyed: for each click whether the network itself obeyed it.
    """

    parts: tuple[Part, ...]
    obeyed: dict[Click, bool]


def hold_dialogue(
    looks: Looks, first: FirstAnswer, first_key: Hashable, clicks: Sequence[Click], threshold: float
) -> DialogueAnswer:
    """The answer to all clicks.

    Args:
        looks: at the image.
        first: answer to the first foreground click.
        first_key: of that.
        clicks: of both kinds, each kind in its order.
        threshold: foreground probability.
    """
    foreground = _steps(first.roi, [click for click in clicks if click.is_foreground])
    background = _steps(first.roi, [click for click in clicks if not click.is_foreground])
    return _Lattice(looks, first, first_key, foreground, background, threshold).answer()


def _steps(roi: Roi, clicks: Sequence[Click]) -> list[Step]:
    steps = [
        Step((click,), tile_offset(roi, click), tuple(clicks[: n + 1])) for n, click in enumerate(clicks[:SINGLE_STEPS])
    ]
    beyond: dict[Offset, list[Click]] = {}
    for click in clicks[SINGLE_STEPS:]:
        beyond.setdefault(tile_offset(roi, click), []).append(click)
    for offset, some in beyond.items():
        steps.append(Step(tuple(some), offset, (*steps[-1].before, *some)))
    return steps


def _first_tiles(steps: Sequence[Step], most: int) -> set[Offset]:
    beside = dict.fromkeys(step.offset for step in steps if any(step.offset))
    return {(0, 0, 0), *list(beside)[:most]}


class _Lattice:
    """One request's lattice; see the module.

    Args: see `hold_dialogue`; both kinds in steps.
    """

    def __init__(
        self,
        looks: Looks,
        first: FirstAnswer,
        first_key: Hashable,
        foreground: Sequence[Step],
        background: Sequence[Step],
        threshold: float,
    ) -> None:
        self._looks, self._first, self._key = looks, first, first_key
        self._foreground, self._background, self._threshold = foreground, background, threshold
        self._level = math.log(threshold / (1 - threshold))
        # One for each kind: what is looked at because of one kind must not depend on clicks of the other.
        self._looked_at = [
            _first_tiles(kind, most) for kind, most in zip((foreground, background), MAX_TILES, strict=True)
        ]
        self._patches: dict[tuple[int, int], Patch] = {}

    def answer(self) -> DialogueAnswer:
        """Every pair in lexical order, in which patches are also summed up: far from a click no sum is another."""
        obeyed = {self._foreground[0].clicks[0]: self._first.obeyed}
        parts = [Part(self._first.roi, self._first.logit)]
        for pair in itertools.product(range(len(self._foreground)), range(len(self._background) + 1)):
            steps = self._steps_of(*pair)
            if not steps:
                continue
            patch = self._patches[pair] = self._patch(pair, steps)
            obeyed.update(patch.obeyed)
            if patch.change.numel():
                parts.append(Part(self._roi(patch), patch.change, tuple(step.clicks for step in steps)))
        every = [click for kind in (self._foreground, self._background) for step in kind for click in step.clicks]
        # Where nothing had to be asked, a background click has what it asks for.
        return DialogueAnswer(tuple(parts), {click: obeyed.get(click, not click.is_foreground) for click in every})

    def _steps_of(self, i: int, j: int) -> list[Step]:
        """The steps near whose clicks A(i + 1, j) may differ from its neighbours; none for the first click."""
        return [*([self._foreground[i]] if i else []), *([self._background[j - 1]] if j else [])]

    def _roi(self, patch: Patch) -> Roi:
        return shifted(self._first.roi, patch.offset, _triple(patch.change.shape))

    def _patch(self, pair: tuple[int, int], steps: Sequence[Step]) -> Patch:
        i, j = pair
        offset = steps[-1].offset
        looked_at = offset in self._looked_at[bool(j)]
        clicks = (*self._foreground[i].before, *(self._background[j - 1].before if j else ()))
        key = ("patch", self._key, clicks, looked_at)
        patch: Patch | None = self._looks.embeddings.get(key)
        if patch is None:
            with self._looks.stages.time("paste"):
                roi = shifted(self._first.roi, offset)
                support = functools.reduce(np.logical_and, (_near(roi, step.clicks) for step in steps))
                before = self._without(pair, offset)
            # What is not in the mask cannot be taken out of it.
            asks = support.any() and (not j or bool((before[support] > self._level).any()))
            patch = self._ask(roi, offset, steps, clicks, looked_at, support, before) if asks else _nothing(offset)
            self._looks.embeddings.put(key, patch)
        return patch

    def _without(self, pair: tuple[int, int], offset: Offset) -> Floats:
        """The logit that follows from the other pairs, in the region at an offset."""
        logit = np.full(self._first.roi.size_dhw, BACKGROUND, np.float32)
        _put(logit, offset, self._first.logit.numpy(), (0, 0, 0), add=False)
        for (i, j), patch in self._patches.items():
            if i <= pair[0] and j <= pair[1]:
                _put(logit, offset, patch.change.numpy(), patch.offset, add=True)
        return logit

    def _ask(
        self,
        roi: Roi,
        offset: Offset,
        steps: Sequence[Step],
        clicks: Sequence[Click],
        looked_at: bool,
        support: Mask,
        before: Floats,
    ) -> Patch:
        """What the network corrects near the clicks of the steps, where it can be asked, with all clicks enforced."""
        known = self._looks.known(roi, clicks)
        now = before.copy()
        if looked_at and known and known[0].is_foreground:
            seen = self._looks(roi, known, torch.from_numpy(np.clip(before, BACKGROUND, -BACKGROUND)))
            asked = torch.clamp(seen[1] - seen[0], BACKGROUND, -BACKGROUND).numpy()
            taken = support & self._meant(roi, steps, before)
            kinds = {click.is_foreground for step in steps for click in step.clicks}
            if len(kinds) == 1:
                # What is missing is added, what is too much taken away: not both because of clicks of one kind.
                taken &= (asked > before) == kinds.pop()
            now[taken] = asked[taken]
        with self._looks.stages.time("paste"):
            obeyed = self._settle(roi, clicks, support, now)
            return Patch(*_cropped(now - before, offset), obeyed)

    def _meant(self, roi: Roi, steps: Sequence[Step], before: Floats) -> Mask:
        """Where the clicks are meant: near each, the farther it lies from the border of the mask that it corrects."""
        mask = before > self._level
        meant = np.zeros_like(mask)
        for click in (click for step in steps for click in step.clicks if roi.holds(click)):
            wrong_mm = border_distance(mask, roi.clicks_to_dhw([click])[0], click.is_foreground) * roi.spacing_mm
            meant |= _near(roi, [click], np.clip(EXTENT * wrong_mm, LEAST_MM, REACH_MM))
        return meant

    def _settle(
        self, roi: Roi, clicks: Sequence[Click], support: Mask, logit: Floats
    ) -> tuple[tuple[Click, bool], ...]:
        """Enforces the clicks and drops what holds none, in place, where voxels may change."""
        held = [click for click in clicks if roi.holds(click)]
        clicks_dhw, signs = roi.clicks_to_dhw(held), [click.is_foreground for click in held]
        index = np.clip(np.rint(clicks_dhw).astype(int), 0, np.array(logit.shape) - 1)
        concerned = support[tuple(index.T)]
        pair = torch.from_numpy(np.stack([np.zeros_like(logit), logit]))
        enforced, obeyed = obey(pair, clicks_dhw, signs, roi.spacing_mm, self._threshold)
        logit[support] = enforced[1].numpy()[support]
        logit[unclicked(logit > self._level, support, clicks_dhw[signs])] = BACKGROUND
        return tuple((click, good) for click, good, here in zip(held, obeyed, concerned, strict=True) if here)


def _near(roi: Roi, clicks: Sequence[Click], reach_mm: float = REACH_MM) -> Mask:
    axes_mm = [np.arange(n) * roi.spacing_mm for n in roi.size_dhw]
    # Half a voxel more, so that what lies just within reach in the image has what it is interpolated from.
    return near_clicks(axes_mm, roi.clicks_to_dhw(clicks) * roi.spacing_mm, reach_mm + roi.spacing_mm / 2)


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


def _nothing(offset: Offset) -> Patch:
    return Patch(offset, torch.zeros((0, 0, 0)), ())


def _cropped(change: Floats, offset: Offset) -> tuple[Offset, Tensor]:
    """The smallest box that holds every change, and its place."""
    where = np.argwhere(change)
    if not len(where):
        return offset, torch.zeros((0, 0, 0))
    low, high = where.min(axis=0), where.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return _triple(low + np.array(offset)), torch.from_numpy(np.ascontiguousarray(change[box]))


def _triple(values: Iterable[int]) -> tuple[int, int, int]:
    d, h, w = (int(value) for value in values)
    return d, h, w
