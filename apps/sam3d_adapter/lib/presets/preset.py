"""Task presets: the strict reader of ``configs/*.yaml``.

A preset names everything one infer task needs: which weights, how the ROI is cut, how intensities are normalised and
what the mask is called. The frozen dataclasses are the schema, the YAML files hold the values; an unknown or missing
key and an impossible value are errors that name the file, the key and the valid choices, because a silently ignored
typing error in a clip window would give plausible but wrong masks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lib.presets.roi import OPTIONAL_ROI, RoiPreset, read_roi
from lib.presets.section import PresetError, Section
from lib.segmenters import DEFAULT_FAMILY, FAMILIES

INTENSITY_MODES = ("window", "percentile")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class ModelPreset:
    """Which network and weights.

    Attributes:
        family: a name in ``FAMILIES``.
        size: one of the family's sizes.
        files: relative to the app folder, in the order of the family's keys; for sam3d_adapter ``base``, the frozen
            part (for ``vit_*`` SAM's own checkpoint), and ``weights``, the trained part.
    """

    family: str
    size: str
    files: tuple[str, ...]

    def file(self, key: str) -> str:
        """The file of one of the family's keys."""
        return self.files[FAMILIES[self.family].files.index(key)]


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


@dataclass(frozen=True)
class BlindPreset:
    """Masks that see no image, beside which a model's scores are put; no mask that is served depends on them.

    Chosen once on labelled development images of the modality, never on the images that are scored.

    Attributes:
        ball_mm: radius of the ball around the first click, and of the ball that each further click adds or removes, mm.
        ellipsoid: semi-axes of the ellipsoid in the image's middle, as a share of half the image.
    """

    ball_mm: tuple[float, float]
    ellipsoid: float


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
        blind: what the evaluation puts beside the scores, None where nobody chose its numbers.
    """

    name: str
    description: str
    label: str
    model: ModelPreset
    roi: RoiPreset
    intensity: IntensityPreset
    target_label: int | None = None
    blind: BlindPreset | None = None


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
    top = Section(path, "", content, required=required, optional=("target_label", "blind"))
    target = top.whole_number("target_label", low=1, high=255) if "target_label" in top.values else None
    model = _read_model(path, top.values["model"])
    roi = top.section("roi", required=("size", "spacing_mm", "axes"), optional=OPTIONAL_ROI)
    return Preset(
        name=path.stem,
        description=top.text("description"),
        label=top.text("label"),
        model=model,
        roi=read_roi(roi, model.family, model.size),
        intensity=_read_intensity(path, top.values["intensity"]),
        target_label=target,
        blind=_read_blind(top.section("blind", required=("ball_mm", "ellipsoid"))) if "blind" in top.values else None,
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


def _read_model(path: Path, content: Any) -> ModelPreset:
    name = content.get("family", DEFAULT_FAMILY) if isinstance(content, Mapping) else DEFAULT_FAMILY
    # A wrong family is the reason for its foreign keys, so it is named first.
    if name not in tuple(FAMILIES):
        raise PresetError(f"{path}: model.family is {name!r}; choose from: {', '.join(FAMILIES)}.")
    family = FAMILIES[name]
    section = Section(path, "model", content, required=("size", *family.files), optional=("family",))
    return ModelPreset(
        family=name,
        size=section.choice("size", family.sizes),
        files=tuple(section.relative_path(key) for key in family.files),
    )


def _read_blind(section: Section) -> BlindPreset:
    first, further = section.numbers("ball_mm", 2, low=0.1, high=500.0)
    return BlindPreset(ball_mm=(first, further), ellipsoid=section.number("ellipsoid", low=0.01, high=2.0))


def _read_intensity(path: Path, content: Any) -> IntensityPreset:
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
        raise PresetError(f"{path}: intensity.mode is {mode!r}; choose from: {', '.join(INTENSITY_MODES)}.")
    section = Section(path, "intensity", content, required=("mode", "low", "high"))
    low, high = section.number("low", low=0, high=100), section.number("high", low=0, high=100)
    if low >= high:
        raise section.error("low", f"is {low:g}; it must be below high, which is {high:g}")
    return PercentileIntensity(low=low, high=high)
