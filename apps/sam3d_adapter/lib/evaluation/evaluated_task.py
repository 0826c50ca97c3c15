"""A preset's task as the evaluation asks it: the very code that answers users, without the server around it."""

import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from lib.evaluation.interaction import Answer
from lib.evaluation.simulated_user import SimulatedClick
from lib.infers.click_segmentation import ClickSegmentation, SharedState
from lib.presets import Preset, PresetError
from lib.segmenters import FAMILIES
from lib.segmenters.cache import EmbeddingCache
from lib.serving.model_store import ModelStore
from lib.volumes.read import VolumeCache

NETWORK_OBEYED = "obeyed_by_network"
"""Of an answer: for each click, foreground then background, whether the network alone gave it its label. A task that
enforces clicks tells it here; of one that enforces nothing, the mask itself says it."""

COLD_REQUESTS = 3
_CACHE_BYTES = 2**30
_WARM_UP_VOXELS = 48


@dataclasses.dataclass(frozen=True)
class TaskChoice:
    """All that builds the task, in whatever process.

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

    def __call__(self) -> "EvaluatedTask":
        """The task; no weights are read yet."""
        return EvaluatedTask(self)


def with_weights(preset: Preset, weights: Path, base: Path | None = None) -> Preset:
    """The preset with another file in place of the one that fine-tuning replaces.

    Args:
        preset: Of any family.
        weights: The file.
        base: What these were trained on, where that is not the preset's own.

    Raises:
        PresetError: A base for a family that has none.
    """
    keys = FAMILIES[preset.model.family].files
    if base is not None and keys[0] != "base":
        raise PresetError(f"A base was given, but preset {preset.name} is of a family that has none; leave it out.")
    # Absolute: they are looked for against the app folder otherwise.
    files = (*preset.model.files[:-1], str(weights.resolve()))
    if base is not None:
        files = (str(base.resolve()), *files[1:])
    return dataclasses.replace(preset, model=dataclasses.replace(preset.model, files=files))


class EvaluatedTask:
    """Asks a ``ClickSegmentation`` in this process; nothing is recorded in the server's audit log.

    Args:
        choice: which task.
    """

    def __init__(self, choice: TaskChoice) -> None:
        self._device = choice.device
        self.shared = SharedState(
            ModelStore(), EmbeddingCache(_CACHE_BYTES), VolumeCache(_CACHE_BYTES), choice.precision
        )
        self.task = ClickSegmentation(choice.preset, choice.app_dir, self.shared)
        torch.set_num_threads(choice.threads)

    def __call__(self, image: Path, clicks: Sequence[SimulatedClick]) -> Answer:
        """The answer to a whole dialogue; a first click finds nothing that another dialogue left in the cache.

        Raises:
            HTTPException: as the task's own.
        """
        if len(clicks) == 1:
            self.shared.embeddings.clear()
        request = {
            "image": str(image),
            "device": self._device,
            "result_extension": ".nii",
            "foreground": [list(click.ijk) for click in clicks if click.positive],
            "background": [list(click.ijk) for click in clicks if not click.positive],
        }
        file, answer = self.task(request)
        assert file is not None  # the writer is never skipped
        try:
            mask = np.asarray(nib.load(file).dataobj) > 0
        finally:
            Path(file).unlink()
        stages = answer["latency_ms"]
        return Answer(
            mask=mask,
            encodes=answer["encodes"],
            encode_ms=stages["encode"],
            click_ms=stages["decode"] + stages["paste"],
            obeyed_by_network=_obeyed_by_network(answer, len(clicks)),
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


def _obeyed_by_network(answer: Mapping[str, Any], clicks: int) -> list[bool] | None:
    told = answer.get(NETWORK_OBEYED)
    # A network that knows no background clicks may tell of the others alone; then the mask is asked.
    return [bool(one) for one in told] if told is not None and len(told) == clicks else None
