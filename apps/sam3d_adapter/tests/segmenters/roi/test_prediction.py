"""The network's prediction for a region: encoded once, under a key that holds all that it depends on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.geometry.roi import Roi, place_roi
from lib.prompts.click import Click
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import LoadedModel, Stages
from lib.segmenters.intensity_settings import IntensitySettings, PercentileIntensity, WindowIntensity
from lib.segmenters.roi import prediction
from lib.segmenters.roi.prediction import RoiPredictions
from lib.segmenters.roi.predictor import Predictor
from lib.serving.model_store import ModelSpec, ModelStore
from lib.volumes.volume import Volume, make_volume
from tests.support.weights import write_click_unet

SHAPE = (23, 31, 17)
WINDOW = WindowIntensity(clip_hu=(-160, 240), mean=40, std=60)
CLICK = Click((13, 15, 8))


def image(seed: int = 0) -> Volume:
    return make_volume(np.random.default_rng(seed).normal(40, 60, SHAPE).astype(np.int16), np.eye(4), "a")


def region(ijk: tuple[int, int, int] = CLICK.ijk, spacing_mm: float = 1.5) -> Roi:
    return place_roi([Click(ijk)], SHAPE, np.eye(4), size=32, spacing_mm=spacing_mm)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    file = write_click_unet(tmp_path_factory.mktemp("unet"))
    return ModelStore().get(ModelSpec("click_unet", "test", (file,)), "cpu")


def predictions(
    loaded: LoadedModel, cache: SegmenterCache, volume: Volume, intensity: IntensitySettings = WINDOW
) -> RoiPredictions:
    return RoiPredictions(volume, Predictor(loaded, cache), cache, intensity, Stages())


def test_a_cached_region_is_neither_resampled_nor_encoded(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, volume = SegmenterCache(10**9), image()
    first = predictions(loaded, cache, volume)
    expected = first(region(), [CLICK])
    assert (first.encodes, first.decodes) == (1, 1)
    monkeypatch.setattr(prediction, "resample_roi", lambda *_: pytest.fail("resampled again"))
    later = predictions(loaded, cache, volume)
    assert torch.equal(later(region(), [CLICK]), expected)
    assert (later.encodes, later.decodes) == (0, 1)


def test_no_request_encodes_a_region_twice_even_where_nothing_is_cached(loaded: LoadedModel) -> None:
    asked = predictions(loaded, SegmenterCache(0), image())
    one, other = asked(region(), [CLICK]), asked(region(), [CLICK, Click((14, 16, 9), is_foreground=False)])
    assert (asked.encodes, asked.decodes) == (1, 2) and not torch.equal(one, other)


def test_the_key_holds_everything_that_the_embedding_depends_on(loaded: LoadedModel, tmp_path: Path) -> None:
    other = ModelStore().get(ModelSpec("click_unet", "test", (write_click_unet(tmp_path, seed=1),)), "cpu")
    cases = [
        (loaded, image(), WINDOW, region()),
        (other, image(), WINDOW, region()),
        (loaded, image(), replace(WINDOW, clip_hu=(-160, 241)), region()),
        (loaded, image(), PercentileIntensity(0.5, 99.5), region()),
        (loaded, image(1), WINDOW, region()),
        (loaded, image(), WINDOW, region((13, 15, 9))),
        (loaded, image(), WINDOW, region(spacing_mm=1.4)),
    ]
    cache = SegmenterCache(10**9)
    for model, volume, intensity, roi in cases:
        asked = predictions(model, cache, volume, intensity)
        asked(roi, [CLICK])
        assert asked.encodes == 1
    assert cache.stats().entries == len(cases)
    # The whole answer depends on the regions as well, which its steps name themselves.
    assert len({predictions(model, cache, volume, intensity).key for model, volume, intensity, _ in cases}) == 5
