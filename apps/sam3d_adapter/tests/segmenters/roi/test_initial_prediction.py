"""A first answer that is far too small: a further click far outside it opens it anew, and a click near it does not."""

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.evaluation.metrics import dice
from lib.geometry.click_influence import FOREGROUND_RADIUS_MM
from lib.models.prompts import RoiPrompts
from lib.presets import load_preset
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import LoadedModel, Options, Segmentation, Stages
from lib.segmenters.intensity_settings import WindowIntensity
from lib.segmenters.roi.prediction import MAX_ENCODES
from lib.segmenters.roi.segmenter import RoiSegmenter
from lib.segmenters.roi.settings import RoiNetworkSettings, RoiSettings
from lib.volumes.volume import Volume, make_volume
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.server import APP_DIR

SHAPE = (120, 44, 40)
"""Voxels of 2 mm along each axis."""
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
INTENSITY = WindowIntensity(clip_hu=(0, 100), mean=50, std=50)
SIDE = 64
SEEN = 0.23
"""Of a region's side: so far from a click the network below sees."""
GRID = np.indices(SHAPE)
ROD = ((GRID[1] - 22) ** 2 + (GRID[2] - 20) ** 2 <= 9**2) & (abs(GRID[0] - 60) <= 45)
"""A structure of 180 mm by 36 mm."""
END, MIDDLE, FAR = Click((17, 22, 20)), Click((60, 22, 20)), Click((84, 22, 20))
NEAR_END, BESIDE = Click((27, 22, 20)), Click((60, 38, 20), is_foreground=False)


@dataclass(frozen=True)
class Region:
    """What `ShortSighted` encodes."""

    values: Tensor

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


class ShortSighted(torch.nn.Module):
    """Sees what is bright within a quarter of the region's side of foreground clicks: more from afar than from near."""

    takes_previous, takes_background, takes_box = True, True, False

    def encode(self, roi: Tensor) -> Region:
        return Region(roi)

    def decode(self, embedding: Region, prompts: RoiPrompts) -> Tensor:
        bright = embedding.values[0, 0] > 0
        places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in bright.shape), indexing="ij"), -1).float()
        near = torch.zeros_like(bright)
        for place, sign in zip(prompts.clicks_dhw[0], prompts.is_foreground[0], strict=True):
            if sign:
                near |= ((places - place) ** 2).sum(-1) <= (SEEN * SIDE) ** 2
        foreground = torch.where(bright & near, 4.0, -4.0)
        return torch.stack([torch.zeros_like(foreground), foreground])[None]


@pytest.fixture(scope="module")
def rod() -> Volume:
    return make_volume(np.where(ROD, 100, 0).astype(np.int16), AFFINE, "rod")


def short_sighted(spacings_mm: tuple[float, ...] = (2.0, 4.0), cache: int = 10**9) -> RoiSegmenter:
    """A segmenter with nothing in its cache."""
    loaded = LoadedModel(ShortSighted().eval(), "short-sighted", torch.device("cpu"), threading.Lock())
    settings = RoiNetworkSettings(RoiSettings(SIDE, 1.0, "SAR", wider_spacings_mm=spacings_mm), INTENSITY)
    return RoiSegmenter(loaded, settings, "rod", SegmenterCache(cache), "fp32")


def answer(segmenter: RoiSegmenter, image: Volume, *clicks: Click) -> Segmentation:
    found = segmenter.segment(image, Prompts(clicks), Options(), Stages())
    assert found.encodes <= MAX_ENCODES
    assert all(found.mask[click.ijk] == click.is_foreground for click in clicks)
    return found


def distance_mm(click: Click) -> np.ndarray:
    return np.asarray(2.0 * np.sqrt(sum((axis - at) ** 2 for axis, at in zip(GRID, click.ijk, strict=True))))


def test_a_second_click_far_outside_a_small_answer_opens_it_anew(rod: Volume) -> None:
    segmenter = short_sighted()
    first = answer(segmenter, rod, END)
    assert dice(first.mask > 0, ROD) < 0.3
    both = answer(segmenter, rod, END, FAR)
    assert both.details["roi"]["spacing_mm"] > first.details["roi"]["spacing_mm"] == 1.0
    # Both places are there as far as the wider zoom level sees, which is farther than a correction reaches.
    added = (both.mask > first.mask) & (distance_mm(FAR) > FOREGROUND_RADIUS_MM)
    assert added.sum() > 2000
    assert both.obeyed == (True, True) and dice(both.mask > 0, ROD) > 0.6


def test_a_click_near_the_answer_corrects_it_there_alone(rod: Volume) -> None:
    segmenter = short_sighted()
    before, after = answer(segmenter, rod, END).mask, answer(segmenter, rod, END, NEAR_END).mask
    changed = before != after
    assert changed.any() and distance_mm(NEAR_END)[changed].max() <= FOREGROUND_RADIUS_MM
    # So does one on the opened answer, though it was far outside the first.
    before, after = answer(segmenter, rod, END, FAR).mask, answer(segmenter, rod, END, FAR, MIDDLE).mask
    assert distance_mm(MIDDLE)[before != after].max(initial=0) <= FOREGROUND_RADIUS_MM
    after = answer(segmenter, rod, END, FAR, BESIDE).mask
    assert distance_mm(BESIDE)[before != after].max(initial=0) <= FOREGROUND_RADIUS_MM


def test_undo_after_opening_gives_the_earlier_mask_to_the_bit(rod: Volume) -> None:
    clicks = (END, BESIDE, FAR, NEAR_END, Click((60, 22, 33), is_foreground=False))
    fresh = [answer(short_sighted(), rod, *clicks[:n]).mask for n in range(1, 6)]
    segmenter, forgetful = short_sighted(), short_sighted(cache=0)
    for n in (5, 2, 3, 1, 4, 5):
        np.testing.assert_array_equal(answer(segmenter, rod, *clicks[:n]).mask, fresh[n - 1])
    for n in (5, 3):
        np.testing.assert_array_equal(answer(forgetful, rod, *clicks[:n]).mask, fresh[n - 1])
    assert not np.array_equal(fresh[1], fresh[2])


def test_the_order_between_the_two_kinds_of_clicks_does_not_matter(rod: Volume) -> None:
    foreground, background = (END, FAR, MIDDLE), (BESIDE, Click((60, 22, 33), is_foreground=False))

    def merged(places: Sequence[int]) -> list[Click]:
        on, off = iter(foreground), iter(background)
        return [next(off) if n in places else next(on) for n in range(5)]

    masks = [answer(short_sighted(), rod, *merged(places)).mask for places in itertools.combinations(range(5), 2)]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_a_click_on_a_second_small_structure_leaves_the_first_as_it_is() -> None:
    """However far from the first: two lesions in one mask."""
    two = [
        sum((axis - at) ** 2 for axis, at in zip(GRID, place, strict=True)) <= 5**2
        for place in ((20, 22, 20), (84, 22, 20))
    ]
    image = make_volume(np.where(two[0] | two[1], 100, 0).astype(np.int16), AFFINE, "two")
    segmenter = short_sighted()
    one, both = answer(segmenter, image, Click((20, 22, 20))), answer(segmenter, image, Click((20, 22, 20)), FAR)
    np.testing.assert_array_equal(one.mask > 0, two[0])
    np.testing.assert_array_equal(both.mask > 0, two[0] | two[1])


def test_without_a_wider_zoom_level_a_far_click_corrects_where_it_is(rod: Volume) -> None:
    segmenter = short_sighted(())
    far = Click((36, 22, 20))
    before, after = answer(segmenter, rod, END), answer(segmenter, rod, END, far)
    assert before.details["roi"]["spacing_mm"] == after.details["roi"]["spacing_mm"] == 1.0
    changed = before.mask != after.mask
    assert changed.any() and distance_mm(far)[changed].max() <= FOREGROUND_RADIUS_MM


@pytest.mark.slow
def test_the_shipped_weights_see_a_large_mass_whole_after_a_second_click() -> None:
    """In a mass of two parts, of which the first click shows the smaller one alone."""
    shape, spacing = (100, 100, 60), (2.0, 2.0, 3.0)
    grid = [(np.arange(n) - n // 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*grid, indexing="ij")
    large, small = (x - 15) ** 2 + y**2 + z**2 < 45**2, (x + 36) ** 2 + y**2 + z**2 < 9**2
    rind = (x + 36) ** 2 + y**2 + z**2 < 14**2
    values = np.where(small | (large & ~rind), 90, 30) + np.random.default_rng(3).normal(0, 15, shape)
    image = make_volume(values.astype(np.int16), np.diag([*spacing, 1.0]), "mass")
    preset = load_preset(APP_DIR / "configs/ct.yaml")
    opened = SegmenterChoice(APP_DIR, preset, "cpu", precision="fp32").preset_segmenter().open("cpu")
    first = opened.segment(image, Prompts((Click((32, 50, 30)),)))
    both = opened.segment(image, Prompts((Click((32, 50, 30)), Click((65, 50, 30)))))
    assert first.mask.sum() < 0.1 * (large | small).sum()
    assert dice(both.mask > 0, large | small) > 0.75
    assert both.details["roi"]["spacing_mm"] > first.details["roi"]["spacing_mm"]
    undone = opened.segment(image, Prompts((Click((32, 50, 30)),)))
    np.testing.assert_array_equal(undone.mask, first.mask)
