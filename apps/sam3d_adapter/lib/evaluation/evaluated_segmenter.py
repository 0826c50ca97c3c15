"""A preset's segmenter as the evaluation asks it: what answers users, without the server around it."""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from lib.answer_warnings import code_of
from lib.evaluation.interaction import Answer
from lib.evaluation.simulated_user import SimulatedClick
from lib.presets import Preset
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.segmenters.contract import Stages
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.volumes.read import open_volume

COLD_REQUESTS = 3
_WARM_UP_VOXELS = 48


@dataclasses.dataclass(frozen=True)
class SegmenterChoice:
    """All that builds the segmenter, in whatever process.

    Attributes:
        app_dir: the app folder.
        preset: with the weights that are evaluated.
        device: ``"cpu"`` or ``"cuda:N"``.
        precision: one of ``lib.models.precision.PRECISIONS``.
        threads: of PyTorch in each process; other numbers round otherwise.
    """

    app_dir: Path
    preset: Preset
    device: str
    precision: str = "auto"
    threads: int = 1

    def __call__(self) -> "EvaluatedSegmenter":
        """The segmenter; no weights are read yet."""
        return EvaluatedSegmenter(self)

    def preset_segmenter(self) -> PresetSegmenter:
        """What answers; no weights are read yet."""
        return PresetSegmenter(self.preset, self.app_dir, SharedState.of(precision=self.precision))


class EvaluatedSegmenter:
    """Answers the clicks of a simulated user in this process; nothing is recorded in the server's audit log.

    Args:
        choice: which segmenter.
    """

    def __init__(self, choice: SegmenterChoice) -> None:
        self._device = choice.device
        self.segmenter = choice.preset_segmenter()
        torch.set_num_threads(choice.threads)

    @property
    def shared(self) -> SharedState:
        """Models and caches."""
        return self.segmenter.shared

    def __call__(self, image: Path, clicks: Sequence[SimulatedClick]) -> Answer:
        """The answer to a whole interaction; a first click finds nothing that another interaction left in the cache.

        Raises:
            CheckpointError, ImageError, PromptError: as the segmenter's own.
        """
        if len(clicks) == 1:
            self.shared.cache.clear()
        stages = Stages()
        volume = open_volume(image, self.shared.volumes)
        prompts = Prompts(tuple(Click(click.ijk, click.positive) for click in clicks))
        found = self.segmenter.open(self._device).segment(volume, prompts, stages=stages)
        ms = stages.milliseconds()
        return Answer(
            # Each value of a mask is a label; the first is the structure that the clicks point at.
            mask=found.mask == next(iter(found.labels.values())),
            encodes=found.encodes,
            encode_ms=ms["encode"],
            click_ms=ms["decode"] + ms["paste"],
            obeyed_by_network=found.obeyed,
            warned=[code_of(warning) for warning in found.warnings],
            expected_dice=found.expected_dice,
        )

    def start(self) -> list[float]:
        """Answers the first requests of a process, on a volume of noise; ms each."""
        values = np.random.default_rng(0).normal(40, 60, (_WARM_UP_VOXELS,) * 3).astype(np.int16)
        middle = _WARM_UP_VOXELS // 2
        click = SimulatedClick((middle,) * 3, (middle,) * 3, True)
        times = []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "noise.nii"
            nib.save(nib.Nifti1Image(values, np.eye(4)), path)
            for _ in range(COLD_REQUESTS):
                began = time.perf_counter()
                self(path, [click])
                times.append((time.perf_counter() - began) * 1000)
        self.memory_mib()
        return times

    def memory_mib(self) -> dict[str, float]:
        """Peaks of the GPU since the last call; empty on a CPU."""
        if not self._device.startswith("cuda"):
            return {}
        peaks = {
            "device_allocated": torch.cuda.max_memory_allocated(self._device),
            "device_reserved": torch.cuda.max_memory_reserved(self._device),
        }
        torch.cuda.reset_peak_memory_stats(self._device)
        return {name: round(peak / 2**20, 1) for name, peak in peaks.items()}
