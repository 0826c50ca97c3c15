"""Task presets: the strict reader of ``configs/*.yaml``."""

from lib.presets.preset import ImageFreePreset, ModelPreset, Preset, PresetError, load_preset, load_presets

__all__ = ["ImageFreePreset", "ModelPreset", "Preset", "PresetError", "load_preset", "load_presets"]
