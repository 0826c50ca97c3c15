"""From the answer to the first click to that to all clicks: each click changes the answer around it alone.

SAM 2 answers anew after every click, everywhere, and what was right may be lost far from the click. So, by the rules of
`lib.segmenters.roi.interaction`: foreground clicks and background clicks are two chains, for a request does not say
which kind came when. A click takes from the track after the clicks of its kind up to it what lies within its influence
radius, where that adds (foreground) or removes (background). Each voxel takes the chain of the click that is nearest to
it. A foreground click far outside the answer says that it is far too small: then the new track takes its place, unless
that contradicts a foreground click which the answer obeyed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.families.sam2.propagation import Track
from lib.families.sam2.slices import Slices
from lib.geometry.click_influence import (
    LEAST_VOXELS,
    Floats,
    border_distance,
    correction_radius_mm,
    influence_radius_mm,
    near_clicks,
    squared_distance,
    unclicked,
)
from lib.geometry.paste import BACKGROUND
from lib.prompts.click import Click

Layers = Mapping[int, Floats]
"""(h, w) logits by slice; a slice that is missing is background."""
Ask = Callable[[Sequence[Click]], Track]
"""The track after the box, if there is one, and some clicks."""


@dataclass(frozen=True)
class Grid:
    """The grid of a track's logits; indices are slice, row, column.

    Attributes:
        shape: of it.
        spacing_mm: along each axis.
        pixels: side of the square that a slice is resized to.
        slices: of the image.
    """

    shape: tuple[int, int, int]
    spacing_mm: NDArray[np.float64]
    slices: Slices

    @classmethod
    def of(cls, slices: Slices, side: int) -> "Grid":
        """That of logits of so many pixels a side."""
        rows, columns = slices.shape
        across, y, x = slices.spacing_mm
        return cls((len(slices), side, side), np.array([across, y * rows / side, x * columns / side]), slices)

    def place(self, click: Click) -> NDArray[np.float64]:
        """(3,) index of a click, between pixels."""
        number, (x, y) = self.slices.place(click.ijk)
        scale = self.shape[1] / self.slices.pixels
        return np.array([number, y * scale - 0.5, x * scale - 0.5])

    def distances(self, number: int, clicks: Sequence[Click]) -> NDArray[np.float64]:
        """(h, w) squared distance of a slice's pixels to the nearest click, mm^2; infinite without clicks."""
        return squared_distance(self._axes_mm((number, 0, 0), (1, *self.shape[1:])), self._mm(clicks))[0]

    def _mm(self, clicks: Sequence[Click]) -> NDArray[np.float64]:
        return np.array([self.place(click) for click in clicks]).reshape(-1, 3) * self.spacing_mm

    def _axes_mm(self, low: Sequence[int], shape: Sequence[int]) -> list[NDArray[np.float64]]:
        return [(a + np.arange(n)) * step for a, n, step in zip(low, shape, self.spacing_mm, strict=True)]


def answer_interaction(ask: Ask, slices: Slices, has_box: bool, clicks: Sequence[Click], threshold: float) -> Layers:
    """The logits of the answer to all prompts.

    Args:
        ask: gives tracks.
        slices: of the image.
        has_box: whether there is a box, which is answered first.
        clicks: of both kinds, each kind in its order; at least one of the foreground where there is no box.
        threshold: foreground probability.
    """
    foreground, background = ([click for click in clicks if click.is_foreground == sign] for sign in (True, False))
    told, further = ((), foreground) if has_box else (tuple(foreground[:1]), foreground[1:])
    chains = _Chains(ask, slices, told, math.log(threshold / (1 - threshold)))
    added = chains(further)
    if not background:
        return added
    removed = chains(background)
    return _joined(chains.initial, added, removed, chains.grid, clicks)


class _Chains:
    """The corrections of one request.

    Args:
        ask: gives tracks.
        slices: of the image.
        told: clicks that the initial answer follows from.
        level: logit above which a pixel belongs to the mask.

    Attributes:
        initial: what is corrected; another one once a click opened it anew.
        grid: of the logits.
    """

    def __init__(self, ask: Ask, slices: Slices, told: tuple[Click, ...], level: float) -> None:
        self._ask, self._told, self._level = ask, told, level
        self.initial = _layers(ask(told))
        side = len(next(iter(self.initial.values())))
        self.grid = Grid.of(slices, side)

    def __call__(self, clicks: Sequence[Click]) -> Layers:
        """The answer after the clicks of one kind, after those that were told before them."""
        layers = self.initial
        for n, click in enumerate(clicks):
            so_far = (*self._told, *(one for one in clicks[: n + 1] if one not in self._told))
            track = _layers(self._ask(so_far))
            if click.is_foreground and self._is_far_outside(layers, click) and self._obeys(track, layers, so_far):
                layers = self.initial = track
                self._told = so_far
            else:
                layers = {**layers, **self._corrected(layers, track, click, so_far)}
        return layers

    def _is_far_outside(self, layers: Layers, click: Click) -> bool:
        """Whether a click lies farther from the mask than the radius of a sphere of its volume."""
        voxels = sum(int(np.count_nonzero(layer > self._level)) for layer in layers.values())
        radius_mm = (3 / (4 * math.pi) * voxels * float(np.prod(self.grid.spacing_mm))) ** (1 / 3)
        across_mm = self.grid.spacing_mm[0]
        near = [n for n in layers if abs(n - self.grid.place(click)[0]) * across_mm <= radius_mm]
        return not any(
            ((layers[n] > self._level) & (self.grid.distances(n, [click]) <= radius_mm**2)).any() for n in near
        )

    def _obeys(self, track: Layers, layers: Layers, clicks: Sequence[Click]) -> bool:
        """Whether a track holds all foreground clicks that an answer holds."""
        return all(self._holds(track, one) for one in clicks if one.is_foreground and self._holds(layers, one))

    def _holds(self, layers: Layers, click: Click) -> bool:
        number, row, column = np.rint(self.grid.place(click)).astype(int)
        return number in layers and bool(layers[number][row, column] > self._level)

    def _corrected(self, layers: Layers, track: Layers, click: Click, so_far: Sequence[Click]) -> Layers:
        """The slices that a click changes."""
        grid, sign, radius_mm = self.grid, click.is_foreground, influence_radius_mm([click])
        place, spacing_mm = grid.place(click), grid.spacing_mm
        # One more on both sides, so that a piece which goes on beyond what may change is seen to do so.
        low = np.maximum(np.floor(place - radius_mm / spacing_mm) - 1, 0).astype(int)
        high = np.minimum(np.ceil(place + radius_mm / spacing_mm) + 2, grid.shape).astype(int)
        before, predicted = (_cut(one, low, high) for one in (layers, track))
        wrong_mm = border_distance(before > self._level, place - low, sign, spacing_mm)
        reach_mm = correction_radius_mm(wrong_mm, LEAST_VOXELS * float(spacing_mm.max()), click)
        axes_mm = [np.arange(n) * step for n, step in zip(before.shape, spacing_mm, strict=True)]
        at_mm = (place - low)[None] * spacing_mm
        taken = near_clicks(axes_mm, at_mm, reach_mm) & ((predicted > before) == sign)
        now = np.where(taken, np.clip(predicted, BACKGROUND, -BACKGROUND), before)
        clicked = np.array([grid.place(one) - low for one in so_far if one.is_foreground]).reshape(-1, 3)
        within = clicked[((clicked >= -0.5) & (clicked <= np.array(before.shape) - 0.5)).all(axis=1)]
        now[unclicked(now > self._level, near_clicks(axes_mm, at_mm, radius_mm), within)] = BACKGROUND
        changed = {}
        for number in np.flatnonzero((now != before).any(axis=(1, 2))):
            layer = _layer(layers, int(number + low[0]), grid)
            where = now[number] != before[number]
            layer[low[1] : high[1], low[2] : high[2]][where] = now[number][where]
            changed[int(number + low[0])] = layer
        return changed


def _layers(track: Track) -> Layers:
    return {number: logit[0, 0].cpu().numpy() for number, logit in track.logits.items()}


def _layer(layers: Layers, number: int, grid: Grid) -> Floats:
    """A copy of a slice that may be changed; one without the object is `BACKGROUND`, so that interpolation is fine."""
    found = layers.get(number)
    if found is None or found.max() < BACKGROUND:
        return np.full(grid.shape[1:], BACKGROUND, np.float32)
    return np.array(found)


def _cut(layers: Layers, low: NDArray[np.int_], high: NDArray[np.int_]) -> Floats:
    """(D, H, W), the part of an answer in a box."""
    part = np.full(tuple(high - low), BACKGROUND, np.float32)
    for number in range(low[0], high[0]):
        if number in layers:
            part[number - low[0]] = np.maximum(layers[number][low[1] : high[1], low[2] : high[2]], BACKGROUND)
    return part


def _joined(initial: Layers, added: Layers, removed: Layers, grid: Grid, clicks: Sequence[Click]) -> Layers:
    """Each pixel from the chain of the click that is nearest to it."""
    foreground, background = ([click for click in clicks if click.is_foreground == sign] for sign in (True, False))
    joined = dict(initial)
    for number in sorted({*added, *removed}):
        if any(chain.get(number) is not initial.get(number) for chain in (added, removed)):
            is_removed = grid.distances(number, background) < grid.distances(number, foreground)
            joined[number] = np.where(is_removed, _layer(removed, number, grid), _layer(added, number, grid))
    return joined
