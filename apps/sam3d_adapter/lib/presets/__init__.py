"""Task presets: the strict reader of ``configs/*.yaml``."""

from lib.presets.preset import (
    INTENSITY_MODES,
    BlindPreset,
    IntensityPreset,
    ModelPreset,
    PercentileIntensity,
    Preset,
    RoiPreset,
    WindowIntensity,
    load_preset,
    load_presets,
)
from lib.presets.section import PresetError

__all__ = [
    "INTENSITY_MODES",
    "BlindPreset",
    "IntensityPreset",
    "ModelPreset",
    "PercentileIntensity",
    "Preset",
    "PresetError",
    "RoiPreset",
    "WindowIntensity",
    "load_preset",
    "load_presets",
]
