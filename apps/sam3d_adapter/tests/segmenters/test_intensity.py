"""Intensity rules."""

import numpy as np
import pytest
import torch

from lib.segmenters.intensity import apply_window, intensity_window, percentile_window
from lib.segmenters.intensity_settings import PercentileIntensity, WindowIntensity
from lib.volumes.volume import ImageError, Volume, make_volume

WINDOW = WindowIntensity(clip_hu=(-160, 240), mean=40, std=60)
PERCENTILE = PercentileIntensity(low=0.5, high=99.5)


def volume(array: np.ndarray) -> Volume:
    return make_volume(array, np.eye(4), "a")


def test_window_by_hand_and_zero_outside() -> None:
    roi = torch.tensor([-1000.0, -160.0, 40.0, 100.0, 240.0, 3000.0, 0.0, 500.0]).view(1, 2, 2, 2)
    inside = torch.tensor([True] * 6 + [False] * 2).view(1, 2, 2, 2)
    before = roi.clone()
    found = apply_window(roi, inside, WINDOW)
    expected = [-10 / 3, -10 / 3, 0, 1, 10 / 3, 10 / 3, 0, 0]
    np.testing.assert_allclose(found.flatten(), expected, rtol=1e-6)
    assert roi.equal(before)


def test_percentiles_of_the_voxels_that_are_not_zero() -> None:
    array = np.zeros((30, 31, 32), np.float32)
    part = np.random.default_rng(0).gamma(3, 100, (30, 31, 16)).astype(np.float32)
    array[..., 16:] = part
    array[0, 0, 16], array[0, 1, 16] = np.nan, np.inf
    counted = array[np.isfinite(array) & (array != 0)].astype(float)
    low, high = np.percentile(counted, (0.5, 99.5))
    found = percentile_window(torch.from_numpy(array), PERCENTILE)
    np.testing.assert_allclose(found.clip_hu, (low, high), rtol=1e-5)
    clipped = counted.clip(low, high)
    np.testing.assert_allclose((found.mean, found.std), (clipped.mean(), clipped.std()), rtol=1e-5)


def test_a_scan_in_other_units_gives_the_same_roi() -> None:
    array = np.random.default_rng(0).gamma(3, 100, (20, 20, 20)).astype(np.float32)
    inside = torch.ones(1, 20, 20, 20, dtype=torch.bool)

    def normalised(scale: float) -> torch.Tensor:
        window = intensity_window(PERCENTILE, volume(array * scale))
        return apply_window(torch.from_numpy(array * scale)[None], inside, window)

    torch.testing.assert_close(normalised(1.0), normalised(7.0), atol=1e-4, rtol=0)
    assert abs(float(normalised(1.0).mean())) < 1e-3


def test_large_image_is_subsampled_alike_in_any_memory_order() -> None:
    array = np.random.default_rng(0).integers(1, 1000, (160, 150, 140), dtype=np.int16)
    found = percentile_window(torch.from_numpy(array), PERCENTILE)
    assert found == percentile_window(torch.from_numpy(np.asfortranarray(array)), PERCENTILE)
    np.testing.assert_allclose(found.clip_hu, (5, 995), atol=1)


def test_rare_voxels_between_the_samples_are_found() -> None:
    array = np.zeros((160, 150, 140), np.int16)
    array[1, 1, 1::2], array[1, 3, 1::2] = 100, 300
    assert percentile_window(torch.from_numpy(array), PERCENTILE).mean == pytest.approx(200)


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_image_without_contrast(value: float) -> None:
    with pytest.raises(ImageError, match="one value only"):
        percentile_window(torch.full((9, 9, 9), value), PERCENTILE)


def test_percentiles_are_worked_out_once_per_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    held = volume(np.random.default_rng(0).integers(1, 1000, (9, 9, 9), dtype=np.int16))
    first = intensity_window(PERCENTILE, held)
    monkeypatch.setattr("lib.segmenters.intensity.percentile_window", lambda *_: pytest.fail("worked out again"))
    assert intensity_window(PERCENTILE, held) is first
    assert intensity_window(WINDOW, held) is WINDOW
