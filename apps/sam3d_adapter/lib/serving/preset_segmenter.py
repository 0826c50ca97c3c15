"""The segmenter of a preset: the version of the weights that is served, and limits that hold for every network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.answer_warnings import answer_warning
from lib.models.checkpoint_error import CheckpointError
from lib.presets import Preset
from lib.prompts.box import Box
from lib.prompts.prompts import Prompts
from lib.registry.versions import Versions
from lib.segmenters import families
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import FeatureSegmenter, Options, Segmentation, Segmenter, Stages
from lib.serving.devices import read_device
from lib.serving.model_store import ModelSpec, ModelStore
from lib.serving.predicted_dice import Calibration, Calibrations
from lib.serving.served_model import ServedModel
from lib.volumes.read import VolumeCache
from lib.volumes.volume import Volume

BOX_TOLERANCE = 0.1
"""Share of a box's side by which its faces may be wrong: the jitter of the boxes in training."""


class MissingWeightsError(CheckpointError):
    """A preset without weights, with how to get them."""


@dataclass(frozen=True)
class SharedState:
    """What the segmenters of a process share: images, models and embeddings are held once, whoever asks.

    Attributes:
        models: loaded networks.
        cache: embeddings and steps of interactions.
        volumes: images.
        precision: one of ``lib.models.precision.PRECISIONS``.
    """

    models: ModelStore
    cache: SegmenterCache
    volumes: VolumeCache
    precision: str = "auto"

    @classmethod
    def of(cls, megabytes: int = 1024, precision: str = "auto") -> "SharedState":
        """Of a process that serves nobody else, with a budget in MiB for each cache."""
        return cls(ModelStore(), SegmenterCache(megabytes * 2**20), VolumeCache(megabytes * 2**20), precision)


@dataclass(frozen=True)
class OpenSegmenter:
    """A segmenter on a device, with one version of the weights from its first answer to its last.

    Attributes:
        segmenter: of the preset's family.
        device: ``cpu`` or ``cuda:N``.
        version: id of the version, or ``shipped``.
        model_version: sha256 of the weights.
        warnings: why it is not the version that was published.
        calibration: predicts the Dice of its answers; None where too few patients are labelled.
    """

    segmenter: Segmenter
    device: str
    version: str
    model_version: str
    warnings: tuple[str, ...] = ()
    calibration: Calibration | None = None

    def segment(
        self,
        image: Volume,
        prompts: Prompts,
        options: Options | None = None,
        *,
        protected: NDArray[np.bool_] | None = None,
        stages: Stages | None = None,
    ) -> Segmentation:
        """Segments what the prompts point at, within the limits that they set.

        Args:
            image: the whole image.
            prompts: all of the interaction so far.
            options: threshold and refinement.
            protected: (i, j, k) voxels that stay out of the mask.
            stages: takes the times.

        Raises:
            PromptError: prompts that cannot be used together.
        """
        stages = stages or Stages()
        found = self.segmenter.segment(image, prompts, options or Options(), stages)
        with stages.time("paste"):
            limit_mask(found.mask, prompts, protected)
        return replace(found, warnings=(*self.warnings, *found.warnings))

    def features(self, image: Volume) -> NDArray[np.float32] | None:
        """As `FeatureSegmenter.features`; None of a segmenter without that method."""
        return self.segmenter.features(image) if isinstance(self.segmenter, FeatureSegmenter) else None


class PresetSegmenter:
    """Answers prompts as a preset says; building it reads no weights.

    Args:
        preset: the task's values.
        app_dir: folder against which the preset's weight files are named.
        shared: models and caches of the process.
        versions: of the preset's weights, one of which may be served in place of its own; None for its own alone.

    Attributes:
        preset: the task's values.
        spec: the files that the preset names.
        served: which version answers.
        shared: models and caches of the process.
    """

    def __init__(self, preset: Preset, app_dir: Path, shared: SharedState, versions: Versions | None = None) -> None:
        self.preset, self.shared = preset, shared
        self._app_dir = app_dir
        model = preset.model
        self.spec = ModelSpec(model.family, model.size, tuple(app_dir / file for file in model.files))
        self.served = ServedModel(preset.name, self.spec, shared.models, versions)
        self._calibrations = Calibrations(None if versions is None else versions.folder, preset)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process builds it anew, with models and caches of its own."""
        versions = self.served.versions
        of = None if versions is None else (versions.folder, versions.preset, versions.size, versions.family)
        return _elsewhere, (self.preset, self._app_dir, self.shared.precision, of)

    def open(self, device: str | None = None, weights: str | None = None) -> OpenSegmenter:
        """The version that is served now: whatever is published meanwhile, a request runs on this one.

        Args:
            device: ``cpu``, ``cuda:N``; None for the first GPU, else the CPU.
            weights: sha256 that they must have; None for those that are served.

        Raises:
            DeviceError: no such device.
            MissingWeightsError: files are missing; the message says how to get them.
            CheckpointError: no version can be served, or it has other weights.
        """
        device = read_device(device)
        self.require_weights()
        answering = self.served.get(device)
        family, preset, shared = families()[self.preset.model.family], self.preset, self.shared
        segmenter = family.segmenter(answering.loaded, preset.settings, preset.labels, shared.cache, shared.precision)
        warnings = (answer_warning("other-version", answering.warning),) if answering.warning else ()
        found = answering.loaded.version
        if weights not in (None, found):
            raise CheckpointError(
                f"Preset '{preset.name}' has the weights {found[:12]} here, not {str(weights)[:12]}. Start "
                "again, and see that all machines read the same folder of versions."
            )
        calibration = self.calibration(found)
        return OpenSegmenter(segmenter, device, answering.version, found, warnings, calibration)

    def calibration(self, weights_sha256: str) -> Calibration | None:
        """What predicts the Dice of a version's answers; None where too few patients are labelled."""
        return self._calibrations.of(weights_sha256)

    def segment(
        self, image: Volume, prompts: Prompts, options: Options | None = None, *, device: str | None = None
    ) -> Segmentation:
        """As `OpenSegmenter.segment`, with the version that is served now."""
        return self.open(device).segment(image, prompts, options)

    def require_weights(self) -> None:
        """Passes if a request can be answered as far as files are concerned.

        Raises:
            MissingWeightsError: files are missing; the message says how to get them.
        """
        missing = self.served.missing_files()
        if missing:
            raise MissingWeightsError(how_to_supply(self.preset, missing, self._app_dir))


def _elsewhere(
    preset: Preset, app_dir: Path, precision: str, versions: tuple[Path, str, str, str] | None
) -> PresetSegmenter:
    own = None if versions is None else Versions(*versions)
    return PresetSegmenter(preset, app_dir, SharedState.of(precision=precision), own)


def how_to_supply(preset: Preset, missing: Sequence[Path], app_dir: Path) -> str:
    """Which files are missing where, and how to get them; the text does not reveal the app folder.

    Args:
        preset: whose.
        missing: absolute paths of the absent files.
        app_dir: the app folder.
    """
    names = [path.relative_to(app_dir) for path in missing]
    shipped = [str(name) for name in names if name.parts[0] == "weights"]
    made = [str(name) for name in names if name.parts[0] != "weights"]
    steps = []
    if shipped:
        steps.append(f"{', '.join(shipped)}: part of this app's repository, so get that again.")
    if made:
        steps.append(families()[preset.model.family].how_to_supply(preset.name, preset.model.size, made))
    missing_text = " ".join(steps)
    return (
        f"Task '{preset.name}' has no weights and never runs on random ones. Missing in the app folder: {missing_text}"
    )


def limit_mask(mask: NDArray[np.uint8], prompts: Prompts, protected: NDArray[np.bool_] | None) -> None:
    """Takes away what may not belong to a mask; changes it in place.

    - Outside the box, widened by `BOX_TOLERANCE`, nothing is added to the mask prompt; without one, nothing is there.
    - Protected voxels are left out.
    - Each clicked voxel is what the click says.

    Args:
        mask: (i, j, k).
        prompts: that it answers.
        protected: (i, j, k).
    """
    box = prompts.box
    if box is None and protected is None:
        return
    if box is not None:
        _cut_at_box(mask, box, None if prompts.mask is None else prompts.mask.mask)
    if protected is not None:
        mask[protected] = 0
    for click in prompts.clicks:
        if not click.is_foreground:
            mask[click.ijk] = 0
        elif not mask[click.ijk]:
            mask[click.ijk] = 1


def _cut_at_box(mask: NDArray[np.uint8], box: Box, start: NDArray[np.bool_] | None) -> None:
    inside = box.widened(BOX_TOLERANCE).slices(mask.shape)
    answer = mask[inside].copy()
    if start is None:
        mask[...] = 0
    else:
        mask *= start
    mask[inside] = answer
