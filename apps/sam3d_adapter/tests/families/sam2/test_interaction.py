"""What a further click may change: tracks that lose or add something elsewhere are drawn by hand."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from lib.families.sam2.interaction import Layers, answer_interaction
from lib.families.sam2.propagation import Track
from lib.families.sam2.settings import SliceSettings
from lib.families.sam2.slices import Slices
from lib.prompts.click import Click
from lib.segmenters.intensity_settings import WindowIntensity
from lib.volumes.volume import make_volume

SHAPE = (64, 64, 24)
"""Voxels of 2 x 2 x 4 mm; the square has 64 pixels, and logits as many."""
Box = tuple[slice, slice, slice]
OBJECT: Box = (slice(20, 40), slice(20, 40), slice(6, 16))
FIRST = Click((30, 30, 10))


@pytest.fixture(scope="module")
def slices() -> Slices:
    volume = make_volume(np.arange(np.prod(SHAPE)).reshape(SHAPE) % 7, np.diag([2.0, 2.0, 4.0, 1.0]), "steps")
    return Slices(volume, SliceSettings("same", 3, WindowIntensity((0, 7), 3, 1)), 64)


def mask_of(*boxes: Box, without: Box | None = None) -> np.ndarray:
    """(i, j, k) bool."""
    mask = np.zeros(SHAPE, bool)
    for box in boxes:
        mask[box] = True
    if without is not None:
        mask[without] = False
    return mask


class Tracks:
    """Gives each set of clicks its mask as a track; slices without the object are as SAM 2 has them, or missing."""

    def __init__(self, masks: Mapping[tuple[Click, ...], np.ndarray]) -> None:
        self._masks, self.asked = masks, list[tuple[Click, ...]]()

    def __call__(self, clicks: Sequence[Click]) -> Track:
        self.asked.append(tuple(clicks))
        mask = self._masks[tuple(clicks)]
        logits = {}
        for number in range(2, 22):
            layer = torch.from_numpy(mask[:, :, number].T.copy())
            logit = torch.where(layer, 5.0, -5.0) if layer.any() else torch.full((64, 64), -1024.0)
            logits[number] = logit[None, None]
        return Track(logits, {})


def shown(layers: Layers) -> np.ndarray:
    """(i, j, k) bool, the mask of an answer."""
    mask = np.zeros(SHAPE, bool)
    for number, layer in layers.items():
        mask[:, :, number] = layer.T > 0
    return mask


def answer(tracks: Tracks, slices: Slices, *clicks: Click) -> np.ndarray:
    return shown(answer_interaction(tracks, slices, False, clicks, 0.5))


def test_one_click_is_the_track_itself(slices: Slices) -> None:
    tracks = Tracks({(FIRST,): mask_of(OBJECT)})
    assert np.array_equal(answer(tracks, slices, FIRST), mask_of(OBJECT)) and tracks.asked == [(FIRST,)]


def test_a_click_adds_around_it_and_what_the_new_track_lost_elsewhere_stays(slices: Slices) -> None:
    missing: Box = (slice(40, 44), slice(20, 40), slice(6, 16))
    second = Click((42, 30, 10))
    lost = mask_of(OBJECT, missing, (slice(2, 6), slice(2, 6), slice(6, 16)), without=(slice(20, 26), *OBJECT[1:]))
    found = answer(Tracks({(FIRST,): mask_of(OBJECT), (FIRST, second): lost}), slices, FIRST, second)
    assert found[mask_of(OBJECT)].all() and found[second.ijk]
    # It is 3 voxels, 6 mm, from the mask: 12 mm around it are corrected.
    added = np.argwhere(found & ~mask_of(OBJECT))
    distances = np.linalg.norm((added - second.ijk) * (2, 2, 4), axis=1)
    assert mask_of(missing)[tuple(added.T)].all() and 8 < distances.max() <= 12


def test_a_background_click_removes_around_it_alone_and_the_order_of_the_kinds_does_not_matter(slices: Slices) -> None:
    leak: Box = (slice(40, 50), slice(28, 34), slice(8, 12))
    tail: Box = (slice(30, 34), slice(30, 34), slice(16, 18))
    beside, second = Click((46, 30, 10), is_foreground=False), Click((32, 32, 17))
    tracks = Tracks(
        {
            (FIRST,): mask_of(OBJECT, leak),
            (FIRST, second): mask_of(OBJECT, leak, tail),
            # It loses the other half of the object.
            (FIRST, beside): mask_of(OBJECT, without=(slice(20, 28), *OBJECT[1:])),
        }
    )
    found = answer(tracks, slices, FIRST, second, beside)
    assert np.array_equal(found, answer(tracks, slices, FIRST, beside, second))
    assert not found[beside.ijk] and not found[44:50, 28:34, 8:12].any()
    assert found[mask_of(OBJECT)].all() and found[second.ijk]
    # Without the last click of either kind, the other's correction stays.
    assert np.array_equal(answer(tracks, slices, FIRST, beside)[:, :, :14], found[:, :, :14])
    assert np.array_equal(answer(tracks, slices, FIRST, second)[:34], found[:34])


def test_a_click_far_outside_opens_the_answer_anew_unless_that_loses_an_earlier_click(slices: Slices) -> None:
    far, whole = Click((30, 30, 20)), (*OBJECT[:2], slice(6, 22))
    small: Box = (slice(28, 32), slice(28, 32), slice(9, 12))
    tracks = {(FIRST,): mask_of(small), (FIRST, far): mask_of(whole)}
    assert np.array_equal(answer(Tracks(tracks), slices, FIRST, far), mask_of(whole))
    other = mask_of((slice(24, 36), slice(24, 36), slice(17, 22)))
    kept = answer(Tracks(tracks | {(FIRST, far): other}), slices, FIRST, far)
    assert kept[mask_of(small)].all() and kept[far.ijk] and not kept[:, :, 12:15].any()
