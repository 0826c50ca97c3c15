"""The seam: what answers a user's prompts about an image, whatever network is behind it."""

# Presets and the list of families need no torch: whoever only reads versions does not wait for it.
from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lib.prompts.click import Click
from lib.prompts.prompts import Prompts

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from lib.conversion.convert import Conversion
    from lib.conversion.job import ConversionJob
    from lib.files.yaml_section import Section
    from lib.models.loading import LoadReport
    from lib.segmenters.cache import SegmenterCache
    from lib.segmenters.frozen_store import FrozenStore
    from lib.volumes.volume import Volume

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Capabilities:
    """What a segmenter can do.

    Attributes:
        prompts: kinds that its network reads, as `Prompt.kind` names them; others may still place or bound the mask.
        background_clicks: whether its network tells background clicks from foreground ones.
        sees: how much of the image its network sees at once: ``"region"``, ``"slices"`` or ``"volume"``.
    """

    prompts: frozenset[str]
    background_clicks: bool
    sees: str


@dataclass(frozen=True)
class Options:
    """How to segment.

    Attributes:
        threshold: foreground probability above which a voxel belongs to the mask; between 0 and 1, both excluded.
        refine: whether to predict the mask's surface again at full resolution, where the segmenter can.

    Raises:
        ValueError: a threshold out of range.
    """

    threshold: float = DEFAULT_THRESHOLD
    refine: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold (={self.threshold}) must lie between 0 and 1, both excluded.")


class Stages:
    """Time spent in each stage of one answer, ms."""

    def __init__(self) -> None:
        names = ("weights", "load", "resample", "encode", "decode", "paste", "write", "total")
        self._milliseconds = dict.fromkeys(names, 0.0)

    def add(self, stage: str, milliseconds: float) -> None:
        """Adds to a stage."""
        self._milliseconds[stage] += milliseconds

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Adds the time of the ``with`` block."""
        start = time.perf_counter()
        yield
        self.add(stage, (time.perf_counter() - start) * 1000)

    def milliseconds(self) -> dict[str, float]:
        """ms by stage, rounded to 0.1."""
        return {stage: round(value, 1) for stage, value in self._milliseconds.items()}

    def phases(self) -> dict[str, Any]:
        """Seconds by phase, as MONAI Label's own tasks report them."""
        ms = self._milliseconds
        phases = {
            "pre": ms["weights"] + ms["load"],
            "infer": ms["resample"] + ms["encode"] + ms["decode"],
            "invert": 0.0,
            "post": ms["paste"],
            "write": ms["write"],
            "total": ms["total"],
        }
        return {**{phase: round(value / 1000, 2) for phase, value in phases.items()}, "transform": {}}


@dataclass(frozen=True)
class Segmentation:
    """The answer to a user's prompts.

    Attributes:
        mask: (i, j, k) uint8 on the image's grid: 0, and for each label its value.
        labels: name of each label and its value in the mask.
        obeyed: for each of `Prompts.clicks`, whether the network itself gave the voxel the label that the click asks
            for, before anything was enforced; None where the segmenter cannot tell.
        pseudo_click: voxel that the network was shown as a foreground click without being the user's.
        used: prompts that the answer depends on; a prompt that the weights cannot read is missing.
        expected_dice: Dice of the mask as if the network's own probabilities were right; None where it gives none.
        encodes: image encoder passes.
        decodes: decoder passes.
        details: further entries of the JSON answer, such as the first region.
        warnings: what the user should know.
    """

    mask: NDArray[np.uint8]
    labels: Mapping[str, int]
    used: Prompts
    obeyed: tuple[bool, ...] | None = None
    pseudo_click: Click | None = None
    expected_dice: float | None = None
    encodes: int = 0
    decodes: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Segmenter(Protocol):
    """Answers prompts about an image: a pure function of image, weights, prompts and options.

    One that can also say how an image looks to its network is a `FeatureSegmenter`.

    Attributes:
        capabilities: what it can do.
        precision: number type that it computes in: ``fp32`` or ``bf16``.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def precision(self) -> str: ...

    def segment(self, image: Volume, prompts: Prompts, options: Options, stages: Stages) -> Segmentation:
        """Segments what the prompts point at.

        Args:
            image: the whole image.
            prompts: all of the interaction so far.
            options: threshold and refinement.
            stages: takes the times.

        Raises:
            PromptError: prompts that cannot be used together.
        """


@runtime_checkable
class FeatureSegmenter(Protocol):
    """A segmenter with the optional method that cases are chosen by; see `lib.activelearning.coverage`."""

    def features(self, image: Volume) -> NDArray[np.float32] | None:
        """What the network sees in an image, whatever is clicked: images that look alike to it are near each other.

        Args:
            image: the whole image.

        Returns:
            (F,), of the same length for all images; None where this network has none.

        Raises:
            ImageError: an image without contrast.
        """


@dataclass(frozen=True)
class LoadedModel:
    """A verified network on its device.

    Attributes:
        model: in eval mode, no parameter requires a gradient.
        version: sha256 of the weights.
        device: where it is.
        lock: held around every forward pass; shared by all models of the device, whose memory they share.
    """

    model: Any
    version: str
    device: torch.device
    lock: threading.Lock


class TrainingRecipe(Protocol):
    """How the networks of a family are fine-tuned."""

    def train(self, job: Any) -> None:
        """Trains a candidate.

        Args:
            job: a `lib.learning.candidate.CandidateJob`: training data, parent weights, limits, where to write.
        """


@runtime_checkable
class PretrainedFamily(Protocol):
    """A family with the optional attribute and method by which ``sam3d weights`` makes weights from nothing.

    Attributes:
        name: as `Family.name`.
        files: as `Family.files`.
        pretrained_sizes: those that are made; no two families have one of the same name.
    """

    name: str
    files: tuple[str, ...]
    pretrained_sizes: tuple[str, ...]

    def pretrain(self, size: str, training: Any, device: torch.device) -> None:
        """Trains in each of the processes that train together; the first one writes curve, state and weights.

        A stopped training resumes. A finished one writes its weights again without a further step.

        Args:
            size: one of `pretrained_sizes`.
            training: a `lib.pretraining.pretrain.Pretraining`: volumes, limits, where to write.
            device: of this process.
        """


class Family(Protocol):
    """How networks of one kind are described in a preset, loaded and asked. Each is a folder of `lib.families`.

    Attributes:
        name: in presets; that of the folder.
        sizes: names of the sizes.
        files: keys of the preset's ``model`` section that name files, the one that fine-tuning replaces last.
        sections: further sections of a preset that this family reads.
    """

    name: str
    sizes: tuple[str, ...]
    files: tuple[str, ...]
    sections: tuple[str, ...]

    def read_settings(self, preset: Section, size: str) -> Any:
        """What the family's sections of a preset say: a frozen dataclass.

        Raises:
            SettingsError: a value that cannot be used.
        """

    def load(self, size: str, files: Mapping[str, Path], device: str, frozen: FrozenStore) -> tuple[Any, LoadReport]:
        """A network on a device, in eval mode, no parameter requiring a gradient.

        Args:
            size: one of `sizes`.
            files: by the keys in the attribute of that name.
            device: ``"cpu"`` or ``"cuda:N"``.
            frozen: holds the tensors that several networks share.

        Raises:
            CheckpointError: a file is absent or does not verify; says which and why.
        """

    def segmenter(
        self, loaded: LoadedModel, settings: Any, labels: Sequence[str], cache: SegmenterCache, precision: str
    ) -> Segmenter:
        """Answers prompts with a network that `load` gave.

        Args:
            loaded: the network.
            settings: from `read_settings`.
            labels: names of what is segmented, as the preset says.
            cache: shared by all segmenters of the process.
            precision: one of ``lib.models.precision.PRECISIONS``.
        """

    def training_recipe(self) -> TrainingRecipe | None:
        """How its networks are fine-tuned; None where they cannot be."""

    def convert(self, job: ConversionJob) -> Conversion:
        """Makes the files of a preset from what others publish.

        Args:
            job: what to make, and from what.

        Raises:
            CheckpointError: nobody publishes any, or a file is wrong, is there already or cannot be written.
        """

    def how_to_supply(self, preset: str, size: str, missing: Sequence[str]) -> str:
        """Which steps make the weights that are missing: sentences for the user.

        Args:
            preset: its name.
            size: one of `sizes`.
            missing: files below the app folder.
        """
