"""Training a candidate: from a parent version and training data to new weights."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib.annotations.strata import strata
from lib.annotations.submitted_set import MAX_BYTES, SubmittedDataSet
from lib.evaluation.ledger import write_json
from lib.learning.forgetting import ForgettingTest
from lib.learning.progress import ProgressFile
from lib.learning.rehearsal import Rehearsal
from lib.learning.settings import TrainSettings
from lib.learning.training_data import TrainingData
from lib.presets import Preset
from lib.training.distributed import from_first, rank, world_size
from lib.training.network import Network
from lib.training.sampling import for_training, for_validation
from lib.training.state import Progress
from lib.training.stream import Batch, SampleStream, Source
from lib.training.tracking import open_tracker
from lib.training.train import TrainingConfig, train

CANDIDATE_FILE = "candidate.safetensors"
FORGETTING_FILE = "retention.json"
BATCH = 4
"""Samples per step."""
STEPS_PER_EPOCH = 50
PEAK_LR = 1e-3
"""Half of the rate for training from scratch: learning is nearly as fast, forgetting is less."""
EMA_DECAY = 0.98
PATIENCE = 4
"""Training ends after so many epochs without a better Dice on the validation cases."""
RECORDED_SHARE = 0.5
"""Share of samples with recorded clicks, of the objects that have some."""
VALIDATION_BATCHES = 8
WORKERS = 1


@dataclass(frozen=True)
class CandidateJob:
    """What a training recipe is given.

    Attributes:
        preset: whose network is trained.
        files: of the network by the keys of its family; the trained one is that of the parent version.
        parent: id of the version to start from.
        folder: of the run; a stopped training in it is resumed.
        data: training and validation cases.
        settings: of the request.
        progress: file to update.
        rehearsal: synthetic lesions against forgetting; None for none.
        precision: one of `lib.models.precision.PRECISIONS`.
    """

    preset: Preset
    files: Mapping[str, Path]
    parent: str
    folder: Path
    data: TrainingData
    settings: TrainSettings
    progress: ProgressFile
    rehearsal: Rehearsal | None
    precision: str

    @property
    def weights(self) -> Path:
        """Where the candidate's weights go."""
        return self.folder / CANDIDATE_FILE

    def provenance(self, inherited: Mapping[str, object]) -> dict[str, object]:
        """Where the candidate's weights come from.

        Args:
            inherited: the same of the parent.
        """
        return {
            "preset": self.preset.name,
            "parent": self.parent,
            "data": f"{len(self.data.train)} labels submitted on a server",
            "licence": f"as the labels; the parent's: {inherited.get('licence', 'not stated')}",
            "started_by": self.settings.started_by,
        }

    def tell(self, **changes: Any) -> None:
        """Updates the progress file, from the first of several processes."""
        if not rank():
            self.progress.update(**changes)


class RoiTrainingRecipe(ABC):
    """Fine-tunes networks that see a cube: interactions with a simulated user on submitted labels, and rehearsal."""

    @abstractmethod
    def load(self, size: str, files: Mapping[str, Path], device: torch.device) -> tuple[Network, Mapping[str, object]]:
        """The parent's network, ready to train, and the provenance of its weights."""

    @abstractmethod
    def save(self, network: Network, path: Path, provenance: Mapping[str, object]) -> None:
        """Writes what is trained."""

    def train(self, job: CandidateJob) -> None:
        """Trains; the first process writes the candidate's weights and ``retention.json``."""
        settings, preset, folder = job.settings, job.preset, job.folder
        job.tell(stage="training")
        device = torch.device(settings.device)
        network, inherited = self.load(preset.model.size, job.files, device)
        stream = SampleStream(
            _sources(job),
            for_training(preset.roi.size, recorded_share=RECORDED_SHARE),
            settings.seed,
            batch=max(1, BATCH // world_size()),
            part=rank(),
            parts=world_size(),
        )
        config = TrainingConfig(
            steps=settings.max_epochs * STEPS_PER_EPOCH,
            minutes=settings.max_minutes,
            peak_lr=PEAK_LR,
            warm_up_steps=20,
            ema_decay=EMA_DECAY,
            report_steps=STEPS_PER_EPOCH,
            patience=PATIENCE if job.data.validation else None,
            seed=settings.seed,
            workers=WORKERS,
            precision=job.precision,
        )
        forgetting = ForgettingTest.of(None if rank() else job.rehearsal, config.interaction, job.precision)
        before = forgetting.measure(network)
        tracker = open_tracker(settings.tracking if not rank() else "none", folder.parents[1], preset.name, folder.name)
        try:
            batches, report = {"labels": _batches(job)}, _reporter(job, config, tracker.point)
            progress = train(network, stream, batches, config, folder, report)
        finally:
            tracker.close()
        if not rank():
            write_json(folder / FORGETTING_FILE, {"before": before, "after": forgetting.measure(network)})
            self.save(network, job.weights, job.provenance(inherited))
            curve = tuple(progress.curve)
            epochs = max(1, math.ceil(progress.step / STEPS_PER_EPOCH))
            # However early it ended, viewers see it as complete.
            job.tell(epoch=epochs, total_epochs=epochs, seconds_left=0.0, curve=curve)


def _sources(job: CandidateJob) -> list[Source]:
    by_structure = strata(job.data.train).values()
    synthetic = 0.0 if job.rehearsal is None else job.rehearsal.share
    # Where other structures are labelled, real cases stand for a part of what was learned before.
    labelled = 1 - synthetic if len(by_structure) == 1 else 2 - synthetic
    # The root, so that neither many labels of one structure drown the others nor three fill half of the samples.
    roots = [math.sqrt(len(cases)) for cases in by_structure]
    labels: list[Source] = [
        SubmittedDataSet(
            cases,
            job.preset,
            labelled * root / sum(roots),
            recorded=job.data.recorded,
            max_bytes=MAX_BYTES // len(roots),
            seed=job.settings.seed,
        )
        for cases, root in zip(by_structure, roots, strict=True)
    ]
    return labels if job.rehearsal is None else [*labels, *from_first(job.rehearsal.data_sets)]


def _batches(job: CandidateJob) -> list[Batch]:
    if rank() or not job.data.validation:
        return []
    # stay=1: the few samples should not all be of one case where no two cases fit into memory.
    cases = SubmittedDataSet(job.data.validation, job.preset, stay=1)
    stream = iter(SampleStream([cases], for_validation(job.preset.roi.size), seed=0, batch=2))
    return [next(stream) for _ in range(VALIDATION_BATCHES)]


def _reporter(
    job: CandidateJob, config: TrainingConfig, point: Callable[[dict[str, float]], None]
) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        done, last = config.done(progress), progress.curve[-1]
        point(last)
        job.tell(
            epoch=progress.step // STEPS_PER_EPOCH,
            total_epochs=max(1, round(progress.step / STEPS_PER_EPOCH / done)),
            seconds=progress.spent_s,
            seconds_left=progress.spent_s * (1 / done - 1),
            loss=last["loss"],
            dice={name: value for name, value in last.items() if name.startswith("dice")},
            curve=tuple(progress.curve),
        )

    return report
