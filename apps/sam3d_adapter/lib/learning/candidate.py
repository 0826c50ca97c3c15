"""Training a candidate: from a parent version and training data to new weights."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lib.annotations.strata import strata
from lib.annotations.submitted_set import MAX_BYTES, SubmittedDataSet
from lib.evaluation.ledger import write_json
from lib.learning.progress import ProgressFile
from lib.learning.rehearsal import Rehearsal
from lib.learning.settings import TrainSettings
from lib.learning.training_data import TrainingData
from lib.presets import Preset
from lib.training.distributed import from_first, rank, world_size
from lib.training.interactions import Interactions
from lib.training.network import Network, Trainable
from lib.training.objective import Objective
from lib.training.sampling import for_training, for_validation
from lib.training.state import Progress
from lib.training.stream import SampleStream, Source, Stream
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
VALIDATION_BATCHES, FORGETTING_BATCHES = 8, 12
"""Of two samples."""
TRAINING, VALIDATION, FORGETTING = PURPOSES = ("training", "validation", "forgetting")
"""What samples are drawn for."""
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


class LoopRecipe(ABC):
    """Fine-tunes by the project's training loop: on submitted labels, and on what is rehearsed.

    Attributes:
        batch: samples of a step.
    """

    batch = BATCH

    @abstractmethod
    def load(self, job: CandidateJob, device: torch.device) -> tuple[Trainable, Mapping[str, object]]:
        """The parent's network, ready to train, and the provenance of its weights."""

    @abstractmethod
    def peak_lr(self, preset: Preset) -> float:
        """Learning rate after the warm-up."""

    @abstractmethod
    def stream(self, preset: Preset, sources: Sequence[Source], purpose: str, seed: int, **how: Any) -> Stream[Any]:
        """Samples.

        Args:
            preset: says how the network sees images.
            sources: of the samples.
            purpose: one of ``PURPOSES``; only for training they are varied at random.
            seed: of the draws.
            how: see `Stream`.
        """

    @abstractmethod
    def objective(self, network: Any, config: TrainingConfig) -> Objective[Any]:
        """Loss and scores of a network that `load` gave."""

    @abstractmethod
    def save(self, network: Any, job: CandidateJob, provenance: Mapping[str, object]) -> None:
        """Writes what is trained to ``job.weights``."""

    def train(self, job: CandidateJob) -> None:
        """Trains; the first process writes the candidate's weights and ``retention.json``."""
        settings, folder = job.settings, job.folder
        job.tell(stage="training")
        device = torch.device(settings.device)
        network, inherited = self.load(job, device)
        how = {"batch": max(1, self.batch // world_size()), "part": rank(), "parts": world_size()}
        stream = self.stream(job.preset, _sources(job), TRAINING, settings.seed, **how)
        config = TrainingConfig(
            steps=settings.max_epochs * STEPS_PER_EPOCH,
            minutes=settings.max_minutes,
            peak_lr=self.peak_lr(job.preset),
            warm_up_steps=20,
            ema_decay=EMA_DECAY,
            report_steps=STEPS_PER_EPOCH,
            patience=PATIENCE if job.data.validation else None,
            seed=settings.seed,
            workers=WORKERS,
            precision=job.precision,
        )
        objective = self.objective(network, config)
        kept = {"held out": self._held_out(job)}
        network.eval()
        before = objective.scores(kept)
        tracking = settings.tracking if not rank() else "none"
        tracker = open_tracker(tracking, folder.parents[1], job.preset.name, folder.name)
        try:
            batches, report = {"labels": self._validation(job)}, _reporter(job, config, tracker.point)
            progress = train(network, objective, stream, batches, config, folder, report)
        finally:
            tracker.close()
        if not rank():
            write_json(folder / FORGETTING_FILE, {"before": before, "after": objective.scores(kept)})
            self.save(network, job, job.provenance(inherited))
            curve = tuple(progress.curve)
            epochs = max(1, math.ceil(progress.step / STEPS_PER_EPOCH))
            # However early it ended, viewers see it as complete.
            job.tell(epoch=epochs, total_epochs=epochs, seconds_left=0.0, curve=curve)

    def _validation(self, job: CandidateJob) -> list[Any]:
        if rank() or not job.data.validation:
            return []
        # stay=1: the few samples should not all be of one case where no two cases fit into memory.
        cases = SubmittedDataSet(job.data.validation, job.preset, stay=1)
        stream = iter(self.stream(job.preset, [cases], VALIDATION, 0, batch=2))
        return [next(stream) for _ in range(VALIDATION_BATCHES)]

    def _held_out(self, job: CandidateJob) -> list[Any]:
        """What was learned before, on which a loss of skill is measured; empty without rehearsal."""
        if rank() or job.rehearsal is None:
            return []
        stream = iter(self.stream(job.preset, job.rehearsal.held_out(), FORGETTING, 0, batch=2))
        return [next(stream) for _ in range(FORGETTING_BATCHES)]


class RoiTrainingRecipe(LoopRecipe):
    """Fine-tunes networks that see a cube: write only `load` and `save`."""

    def peak_lr(self, preset: Preset) -> float:
        """As `LoopRecipe.peak_lr`."""
        return PEAK_LR

    def stream(self, preset: Preset, sources: Sequence[Source], purpose: str, seed: int, **how: Any) -> SampleStream:
        """As `LoopRecipe.stream`."""
        size = preset.roi.size
        config = {
            TRAINING: for_training(size, recorded_share=RECORDED_SHARE),
            VALIDATION: for_validation(size),
            # Half of the large objects are cut off by the ROI, as at the first zoom level in serving.
            FORGETTING: replace(for_validation(size), too_fine_share=0.5),
        }[purpose]
        return SampleStream(sources, config, seed, **how)

    def objective(self, network: Network, config: TrainingConfig) -> Interactions:
        """As `LoopRecipe.objective`."""
        return Interactions(network, config)


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
