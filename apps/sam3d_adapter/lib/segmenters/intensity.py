"""Intensities of the image -> intensities that the network was trained on."""

import math

import torch
from torch import Tensor

from lib.segmenters.intensity_settings import IntensitySettings, PercentileIntensity, WindowIntensity
from lib.volumes.volume import ImageError, Volume

MAX_SAMPLES = 1_000_000
"""Voxels from which percentiles are taken; their error is then far below the noise of any image."""


def apply_window(roi: Tensor, inside: Tensor, window: WindowIntensity) -> Tensor:
    """``(clip(roi) - mean) / std`` inside, 0 outside."""
    scaled = roi.clamp(*window.clip_hu).sub_(window.mean).div_(window.std)
    return torch.where(inside, scaled, 0.0)


def intensity_window(intensity: IntensitySettings, volume: Volume) -> WindowIntensity:
    """The window of an image; percentiles are those of the whole image, so that they do not depend on the ROI.

    Raises:
        ImageError: percentiles of an image without contrast.
    """
    if isinstance(intensity, WindowIntensity):
        return intensity
    window: WindowIntensity = volume.statistic(intensity, lambda voxels: percentile_window(voxels, intensity))
    return window


def percentile_window(voxels: Tensor, intensity: PercentileIntensity) -> WindowIntensity:
    """Percentiles, and mean and deviation between them, of the voxels that are finite and not 0.

    Of a large image every n-th voxel along each axis counts, with the smallest n that leaves ``MAX_SAMPLES``.

    Args:
        voxels: (i, j, k), any real type.
        intensity: percentiles, 0 to 100.

    Raises:
        ImageError: no such voxel, or all of one value.
    """
    step = math.ceil((voxels.numel() / MAX_SAMPLES) ** (1 / 3))
    values = _counted(voxels[::step, ::step, ::step])
    if not values.numel():
        values = _first_counted(voxels)
    if values.numel():
        values = values.sort().values
        low, high = (float(_percentile(values, q)) for q in (intensity.low, intensity.high))
        clipped = values.clamp(low, high).double()
        mean, std = float(clipped.mean()), float(clipped.std(correction=0))
        if std > 1e-6 * max(1.0, abs(mean)):
            return WindowIntensity(clip_hu=(low, high), mean=mean, std=std)
    raise ImageError("The image holds one value only, or nothing but zeros; there is nothing to segment in it.")


def _counted(voxels: Tensor) -> Tensor:
    values = voxels.to(torch.float32).flatten()
    return values[torch.isfinite(values) & (values != 0)]


def _first_counted(voxels: Tensor) -> Tensor:
    """Of an image that is 0 but for a few voxels, those; slice by slice, for all at once take 12 bytes per voxel."""
    found: list[Tensor] = []
    for layer in voxels.unbind(-1):
        if layer.any():
            found.append(_counted(layer))
        if sum(map(len, found)) > MAX_SAMPLES:
            break
    return torch.cat(found) if found else torch.empty(0)


def _percentile(ordered: Tensor, percent: float) -> Tensor:
    # torch.quantile takes 16 million values at most, and sorts anew for each call.
    position = percent / 100 * (len(ordered) - 1)
    lower = min(int(position), len(ordered) - 1)
    upper = min(lower + 1, len(ordered) - 1)
    return torch.lerp(ordered[lower], ordered[upper], position - lower)
