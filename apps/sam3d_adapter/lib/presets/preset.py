"""Task presets: the strict reader of ``configs/*.yaml``.

A preset names everything that one task needs: its network and weights, its labels, and what its family of networks
wants to know. An unknown or missing key and an impossible value are errors that name the file, the key and the valid
choices: a typing error in a clip window that is ignored would give plausible but wrong masks.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from lib.files.yaml_section import Section, SettingsError
from lib.segmenters import families
from lib.segmenters.intensity_settings import IntensitySettings, WindowIntensity
from lib.segmenters.roi.settings import RoiSettings

MODALITIES = ("CT", "MR", "PET")
"""What a preset may be for."""
DEFAULT_FAMILY = "sam3d_adapter"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")

PresetError = SettingsError


@dataclass(frozen=True)
class ModelPreset:
    """Which network and weights.

    Attributes:
        family: a name in `lib.segmenters.families`.
        size: one of the family's sizes.
        files: relative to the app folder, in the order of the family's keys; for sam3d_adapter ``base``, the frozen
            part (for ``vit_*`` SAM's own checkpoint), and ``weights``, the trained part.
    """

    family: str
    size: str
    files: tuple[str, ...]

    def file(self, key: str) -> str:
        """The file of one of the family's keys."""
        return self.files[families()[self.family].files.index(key)]


@dataclass(frozen=True)
class ImageFreePreset:
    """Masks that see no image, beside which a model's scores are put; no mask that is served depends on them.

    Chosen once on labelled development images of the modality, never on the images that are scored.

    Attributes:
        ball_mm: radius of the ball around the first click, and of the ball that each further click adds or removes, mm.
        ellipsoid: semi-axes of the ellipsoid in the image's middle, as a share of half the image.
    """

    ball_mm: tuple[float, float]
    ellipsoid: float


@dataclass(frozen=True)
class Preset:
    """One task.

    Attributes:
        name: stem of the file; the task's name in MONAI Label.
        description: shown by the viewers.
        labels: names of the structures that are segmented; their values in a mask are 1, 2, ... in this order.
        model: network and weights.
        settings: what the family of the network reads of its own sections.
        target_label: voxel value of the structure in the data set the weights were trained on, None where there is no
            such data set. The app itself always answers 0 / 1.
        image_free: what the evaluation puts beside the scores, None where nobody chose its numbers.
        modality: of the images it is for, one of `MODALITIES`; None where the preset does not say.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    model: ModelPreset
    settings: Any
    target_label: int | None = None
    image_free: ImageFreePreset | None = None
    modality: str | None = None

    @property
    def label(self) -> str:
        """The first label: the structure that prompts point at."""
        return self.labels[0]

    @property
    def roi(self) -> RoiSettings:
        """How regions are cut, of a network that sees a cube."""
        roi: RoiSettings = self.settings.roi
        return roi

    @property
    def intensity(self) -> IntensitySettings:
        """How intensities are normalised, of a network that sees a cube."""
        intensity: IntensitySettings = self.settings.intensity
        return intensity

    @property
    def is_for_hu(self) -> bool:
        """Whether images must be in Hounsfield units; false where the family does not say."""
        return isinstance(getattr(self.settings, "intensity", None), WindowIntensity)

    def with_settings(self, **changes: Any) -> Self:
        """The same preset with other values of its family's settings."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))

    def with_weights(self, weights: Path, base: Path | None = None) -> Self:
        """The same preset with another file in place of the one that fine-tuning replaces.

        Args:
            weights: the file.
            base: what these were trained on, where that is not the preset's own.

        Raises:
            PresetError: a base for a family that has none.
        """
        keys = families()[self.model.family].files
        if base is not None and keys[0] != "base":
            raise PresetError(f"A base was given, but preset {self.name} is of a family that has none; leave it out.")
        # Absolute: they are looked for against the app folder otherwise.
        files = (*self.model.files[:-1], str(weights.resolve()))
        if base is not None:
            files = (str(base.resolve()), *files[1:])
        return dataclasses.replace(self, model=dataclasses.replace(self.model, files=files))

    def sha256(self) -> str:
        """Checksum of the values on which masks depend: a file of the same name may be another one next year."""
        values = dataclasses.asdict(self)
        values |= {"label": self.label, **(values.pop("settings") or {})}
        values.pop("image_free")
        values.pop("modality")
        # Records of presets with one label have no list of labels.
        if len(values["labels"]) == 1:
            values.pop("labels")
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


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
    name = _family(path, content)
    family = families()[name]
    label_key = "labels" if isinstance(content, Mapping) and "labels" in content else "label"
    required = ("description", label_key, "model", *family.sections)
    top = Section(path, "", content, required=required, optional=("target_label", "blind", "modality"))
    target = top.whole_number("target_label", low=1, high=255) if "target_label" in top.values else None
    model = _read_model(top, name)
    return Preset(
        name=path.stem,
        description=top.text("description"),
        labels=top.texts("labels") if label_key == "labels" else (top.text("label"),),
        model=model,
        settings=family.read_settings(top, model.size),
        target_label=target,
        image_free=_read_image_free(top) if "blind" in top.values else None,
        modality=top.choice("modality", MODALITIES) if "modality" in top.values else None,
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


def _family(path: Path, content: Any) -> str:
    """The family that the section ``model`` names; which other sections there may be depends on it."""
    model = content.get("model") if isinstance(content, Mapping) else None
    name = model.get("family", DEFAULT_FAMILY) if isinstance(model, Mapping) else DEFAULT_FAMILY
    if name not in tuple(families()):
        raise PresetError(f"{path}: model.family is {name!r}; choose from: {', '.join(families())}.")
    return str(name)


def _read_model(top: Section, name: str) -> ModelPreset:
    family = families()[name]
    section = top.section("model", required=("size", *family.files), optional=("family",))
    return ModelPreset(
        family=name,
        size=section.choice("size", family.sizes),
        files=tuple(section.relative_path(key) for key in family.files),
    )


def _read_image_free(top: Section) -> ImageFreePreset:
    section = top.section("blind", required=("ball_mm", "ellipsoid"))
    first, further = section.numbers("ball_mm", 2, low=0.1, high=500.0)
    return ImageFreePreset(ball_mm=(first, further), ellipsoid=section.number("ellipsoid", low=0.01, high=2.0))
