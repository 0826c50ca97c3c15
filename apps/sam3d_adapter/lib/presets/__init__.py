"""Task presets: the strict reader of ``configs/*.yaml``."""

from lib.presets.preset import (
    DEFAULT_FAMILY,
    ImageFreePreset,
    ModelPreset,
    Preset,
    PresetError,
    load_preset,
    load_presets,
)

__all__ = ["DEFAULT_FAMILY", "ImageFreePreset", "ModelPreset", "Preset", "PresetError", "load_preset", "load_presets"]
