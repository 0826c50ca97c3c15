"""Task presets: the strict reader of ``configs/*.yaml``.

A preset names everything one infer task needs: which weights, how the ROI is cut, how intensities are normalised and
what the mask is called. The frozen dataclasses are the schema, the YAML files hold the values; an unknown or missing
key and an impossible value are errors that name the file, the key and the valid choices, because a silently ignored
typing error in a clip window would give plausible but wrong masks.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from lib.models.config import MODEL_SIZES, ConfigError, ModelConfig

INTENSITY_MODES = ("window", "percentile")
# One letter per anatomical line: the direction in which the index of that ROI axis grows.
AXIS_PAIRS = ("SI", "AP", "RL")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class PresetError(ValueError):
    """A preset that cannot be used, with the file, the key, what was found and what is valid."""


@dataclass(frozen=True)
class ModelPreset:
    """Which network and weights.

    Attributes:
        size: a name in ``MODEL_SIZES``.
        base: file of the frozen part, relative to the app folder (for ``vit_*``: SAM's own checkpoint).
        weights: file of the trained part, relative to the app folder.
    """

    size: str
    base: str
    weights: str


@dataclass(frozen=True)
class RoiPreset:
    """How the ROI is cut.

    Attributes:
        size: voxels along each side of the cube.
        spacing_mm: isotropic voxel spacing of the ROI, mm.
        axes: anatomical directions in which the ROI indices (D, H, W) grow, e.g. ``"SAR"``.
        wider_spacings_mm: ascending spacings, mm, at which to look again while the mask outgrows the ROI.
    """

    size: int
    spacing_mm: float
    axes: str
    wider_spacings_mm: tuple[float, ...] = ()


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


IntensityPreset = WindowIntensity | PercentileIntensity


@dataclass(frozen=True)
class Preset:
    """One infer task.

    Attributes:
        name: stem of the file; the task's name in MONAI Label.
        description: shown by the viewers.
        label: name of the one structure that is segmented.
        target_label: voxel value of that structure in the data set the weights were trained on, None where there is no
            such data set. The app itself always answers 0 / 1.
    """

    name: str
    description: str
    label: str
    model: ModelPreset
    roi: RoiPreset
    intensity: IntensityPreset
    target_label: int | None = None


def load_preset(path: Path) -> Preset:
    """Reads one preset file.

    Raises:
        PresetError: unreadable file, unknown or missing key, impossible value.
    """
    if not _NAME.fullmatch(path.stem):
        raise PresetError(f"{path}: the file's stem is the task's name; use lower-case letters, digits, '_' and '-'.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PresetError(f"{path}: cannot be read as YAML: {error}") from error
    required = ("description", "label", "model", "roi", "intensity")
    top = _Section(path, "", content, required=required, optional=("target_label",))
    target = top.whole_number("target_label", low=1, high=255) if "target_label" in top.values else None
    model = _read_model(top.section("model", required=("size", "base", "weights")))
    roi = top.section("roi", required=("size", "spacing_mm", "axes"), optional=("wider_spacings_mm",))
    return Preset(
        name=path.stem,
        description=top.text("description"),
        label=top.text("label"),
        model=model,
        roi=_read_roi(roi, MODEL_SIZES[model.size]),
        intensity=_read_intensity(path, top.values["intensity"]),
        target_label=target,
    )


def load_presets(folder: Path, names: tuple[str, ...] | None = None) -> dict[str, Preset]:
    """Reads the presets of a folder.

    Args:
        folder: holds one ``<name>.yaml`` per preset.
        names: the ones wanted, in this order; None for all, in alphabetical order.

    Raises:
        PresetError: a name that has no file, no presets at all, or a file that cannot be used.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if not paths:
        raise PresetError(f"{folder}: no preset (*.yaml) found.")
    wanted = tuple(paths) if names is None else names
    unknown = [name for name in wanted if name not in paths]
    if unknown or not wanted:
        raise PresetError(f"Unknown preset {', '.join(unknown) or '(none given)'}; choose from: {', '.join(paths)}.")
    return {name: load_preset(paths[name]) for name in wanted}


def _read_model(section: "_Section") -> ModelPreset:
    return ModelPreset(
        size=section.choice("size", tuple(MODEL_SIZES)),
        base=section.relative_path("base"),
        weights=section.relative_path("weights"),
    )


def _read_roi(section: "_Section", model: ModelConfig) -> RoiPreset:
    axes = section.text("axes")
    if sorted(map(_axis_line, axes)) != sorted(AXIS_PAIRS):
        raise section.error("axes", f"is {axes!r}; give three letters, one each of {', '.join(AXIS_PAIRS)}, e.g. SAR")
    spacing_mm = section.number("spacing_mm", low=0.05, high=20.0)
    size = section.whole_number("size", low=8, high=512)
    try:
        model.tokens(size)
    except ConfigError as error:
        raise section.error("size", f"is {size}. {error}") from error
    return RoiPreset(
        size=size,
        spacing_mm=spacing_mm,
        axes=axes,
        wider_spacings_mm=section.ascending("wider_spacings_mm", low=spacing_mm, high=20.0),
    )


def _axis_line(letter: str) -> str:
    return next((pair for pair in AXIS_PAIRS if letter in pair), "")


def _read_intensity(path: Path, content: Any) -> IntensityPreset:
    mode = content.get("mode") if isinstance(content, Mapping) else None
    if mode == "window":
        section = _Section(path, "intensity", content, required=("mode", "clip_hu", "mean", "std"))
        low, high = section.pair("clip_hu", low=-32768, high=32767)
        return WindowIntensity(
            clip_hu=(low, high),
            mean=section.number("mean", low=low, high=high),
            std=section.number("std", low=1e-6, high=1e6),
        )
    section = _Section(path, "intensity", content, required=("mode", "low", "high"))
    section.choice("mode", INTENSITY_MODES)
    low, high = section.number("low", low=0, high=100), section.number("high", low=0, high=100)
    if low >= high:
        raise section.error("low", f"is {low:g}; it must be below high, which is {high:g}")
    return PercentileIntensity(low=low, high=high)


class _Section:
    """One mapping of a preset file whose keys are checked when it is opened and whose values are checked when read."""

    def __init__(
        self, path: Path, name: str, content: Any, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> None:
        self.path, self.name = path, name
        valid = ", ".join(required + optional)
        if not isinstance(content, Mapping):
            raise PresetError(f"{path}: {name or 'the file'} must be a mapping with the keys {valid}.")
        self.values: Mapping[str, Any] = content
        # A wrong mode is the reason for its foreign keys, so it is named first.
        if name == "intensity" and content.get("mode") not in INTENSITY_MODES:
            raise self.error("mode", f"is {content.get('mode')!r}; choose from: {', '.join(INTENSITY_MODES)}")
        unknown = [str(key) for key in content if key not in required + optional]
        missing = [key for key in required if key not in content]
        if unknown:
            raise self.error(unknown[0], f"is unknown; valid keys: {valid}")
        if missing:
            raise self.error(missing[0], f"is missing; needed keys: {', '.join(required)}")

    def error(self, key: str, text: str) -> PresetError:
        return PresetError(f"{self.path}: {self.name + '.' if self.name else ''}{key} {text}.")

    def section(self, key: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> "_Section":
        return _Section(self.path, key, self.values[key], required=required, optional=optional)

    def text(self, key: str) -> str:
        value = self.values[key]
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"is {value!r}; a non-empty text is needed")
        return value.strip()

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.values[key]
        if value not in choices:
            raise self.error(key, f"is {value!r}; choose from: {', '.join(choices)}")
        return str(value)

    def number(self, key: str, *, low: float, high: float) -> float:
        return self._checked(key, self.values[key], low, high)

    def whole_number(self, key: str, *, low: int, high: int) -> int:
        value = self._checked(key, self.values[key], low, high)
        if value != int(value):
            raise self.error(key, f"is {value!r}; a whole number is needed")
        return int(value)

    def pair(self, key: str, *, low: float, high: float) -> tuple[float, float]:
        value = self.values[key]
        if not isinstance(value, list) or len(value) != 2:
            raise self.error(key, f"is {value!r}; a list [lowest, highest] is needed")
        first, second = (self._checked(key, item, low, high) for item in value)
        if first >= second:
            raise self.error(key, f"is {value!r}; the first number must be below the second")
        return first, second

    def ascending(self, key: str, *, low: float, high: float) -> tuple[float, ...]:
        """Numbers above ``low``, each above the one before; none where the key is absent."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self.error(key, f"is {value!r}; a list of numbers is needed")
        numbers = tuple(self._checked(key, item, low, high) for item in value)
        if any(second <= first for first, second in zip((low, *numbers), numbers, strict=False)):
            raise self.error(key, f"is {value!r}; each number must be above the one before, the first above {low:g}")
        return numbers

    def relative_path(self, key: str) -> str:
        value = self.text(key)
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value:
            raise self.error(key, f"is {value!r}; a path inside the app folder is needed")
        return value

    def _checked(self, key: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(key, f"is {value!r}; a number is needed")
        if not low <= value <= high:
            raise self.error(key, f"is {value!r}; it must lie between {low:g} and {high:g}")
        return float(value)
