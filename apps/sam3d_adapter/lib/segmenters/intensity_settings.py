"""How a preset maps intensities: a window in Hounsfield units, or percentiles of the image."""

from collections.abc import Mapping
from dataclasses import dataclass

from lib.files.yaml_section import Section, SettingsError

INTENSITY_MODES = ("window", "percentile")


@dataclass(frozen=True)
class WindowIntensity:
    """``(clip(x, *clip_hu) - mean) / std``, all in Hounsfield units.

    Attributes:
        clip_hu: lowest and highest value kept, HU.
        mean: subtracted after clipping, HU.
        std: divided by after clipping, HU.
    """

    clip_hu: tuple[float, float]
    mean: float
    std: float
    mode: str = "window"


@dataclass(frozen=True)
class PercentileIntensity:
    """Clip to percentiles of the non-zero voxels of the whole volume, then z-score with what is left of them.

    Attributes:
        low: lower percentile, 0 to 100.
        high: upper percentile, 0 to 100.
    """

    low: float
    high: float
    mode: str = "percentile"


IntensitySettings = WindowIntensity | PercentileIntensity


def read_intensity(preset: Section) -> IntensitySettings:
    """The section ``intensity`` of a preset.

    Raises:
        SettingsError: a value that cannot be used.
    """
    path, content = preset.path, preset.values["intensity"]
    mode = content.get("mode") if isinstance(content, Mapping) else None
    if mode == "window":
        section = Section(path, "intensity", content, required=("mode", "clip_hu", "mean", "std"))
        low, high = section.pair("clip_hu", low=-32768, high=32767)
        return WindowIntensity(
            clip_hu=(low, high),
            mean=section.number("mean", low=low, high=high),
            std=section.number("std", low=1e-6, high=1e6),
        )
    # A wrong mode is the reason for its foreign keys, so it is named first.
    if isinstance(content, Mapping) and mode not in INTENSITY_MODES:
        raise SettingsError(f"{path}: intensity.mode is {mode!r}; choose from: {', '.join(INTENSITY_MODES)}.")
    section = Section(path, "intensity", content, required=("mode", "low", "high"))
    low, high = section.number("low", low=0, high=100), section.number("high", low=0, high=100)
    if low >= high:
        raise section.error("low", f"is {low:g}; it must be below high, which is {high:g}")
    return PercentileIntensity(low=low, high=high)
