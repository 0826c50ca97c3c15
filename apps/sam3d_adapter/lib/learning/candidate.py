"""Training a candidate: from a parent version and training data to new weights."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib.annotations.submitted_set import SubmittedDataSet
from lib.evaluation.ledger import write_json
from lib.files.atomic_write import replacing
from lib.learning.forgetting import ForgettingTest
from lib.learning.progress import ProgressFile
from lib.learning.rehearsal import Rehearsal
from lib.learning.settings import TrainSettings
from lib.learning.training_data import TrainingData
from lib.models.checkpoint import load_model, save_trained
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import mark_trainable
from lib.presets import Preset
from lib.training.distributed import from_first, rank, world_size
from lib.training.sampling import for_training, for_validation
from lib.training.state import Progress
from lib.training.stream import Batch, SampleStream, Source
from lib.training.tracking import open_tracker
from lib.training.train import TrainingConfig, train

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
class CandidateTraining:
    """Trains a candidate.

    Attributes:
        preset: whose network is trained.
        base: the preset's frozen weights.
        data: training and validation cases.
        settings: of the request.
        progress: file to update.
        rehearsal: synthetic lesions against forgetting; None for none.
        precision: one of `lib.models.precision.PRECISIONS`.
    """

    preset: Preset
    base: Path
    data: TrainingData
    settings: TrainSettings
    progress: ProgressFile
    rehearsal: Rehearsal | None
    precision: str

    def __call__(self, folder: Path, parent: str, weights: Path) -> None:
        """Trains; the first process writes ``candidate.safetensors`` and ``retention.json``.

        Args:
            folder: of the run; a stopped training in it is resumed.
            parent: version to start from.
            weights: of that version.
        """
        settings, preset = self.settings, self.preset
        self._tell(stage="training")
        device = torch.device(settings.device)
        model, report = load_model(size=preset.model.size, base=self.base, weights=weights)
        mark_trainable(model.to(device))
        stream = SampleStream(
            self._sources(),
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
            patience=PATIENCE if self.data.validation else None,
            seed=settings.seed,
            workers=WORKERS,
            precision=self.precision,
        )
        forgetting = ForgettingTest.of(None if rank() else self.rehearsal, config.interaction, self.precision)
        before = forgetting.measure(model)
        tracker = open_tracker(settings.tracking if not rank() else "none", folder.parents[1], preset.name, folder.name)
        try:
            progress = train(model, stream, self._batches(), config, folder, self._reporter(config, tracker.point))
        finally:
            tracker.close()
        if not rank():
            write_json(folder / FORGETTING_FILE, {"before": before, "after": forgetting.measure(model)})
            self._save(model, folder, parent, report.provenance)
            curve = tuple(progress.curve)
            epochs = max(1, math.ceil(progress.step / STEPS_PER_EPOCH))
            # However early it ended, viewers see it as complete.
            self._tell(epoch=epochs, total_epochs=epochs, seconds_left=0.0, curve=curve)

    def _sources(self) -> list[Source]:
        data, seed = self.data, self.settings.seed
        labels = SubmittedDataSet(data.train, self.preset, recorded=data.recorded, seed=seed)
        if self.rehearsal is None:
            return [labels]
        labels.share = 1 - self.rehearsal.share
        return [labels, *from_first(self.rehearsal.data_sets)]

    def _batches(self) -> list[Batch]:
        if rank() or not self.data.validation:
            return []
        # stay=1: the few samples should not all be of one case where no two cases fit into memory.
        cases = SubmittedDataSet(self.data.validation, self.preset, stay=1)
        stream = iter(SampleStream([cases], for_validation(self.preset.roi.size), seed=0, batch=2))
        return [next(stream) for _ in range(VALIDATION_BATCHES)]

    def _reporter(
        self, config: TrainingConfig, point: Callable[[dict[str, float]], None]
    ) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            done, last = config.done(progress), progress.curve[-1]
            point(last)
            self._tell(
                epoch=progress.step // STEPS_PER_EPOCH,
                total_epochs=max(1, round(progress.step / STEPS_PER_EPOCH / done)),
                seconds=progress.spent_s,
                seconds_left=progress.spent_s * (1 / done - 1),
                loss=last["loss"],
                dice={name: value for name, value in last.items() if name.startswith("dice")},
                curve=tuple(progress.curve),
            )

        return report

    def _save(self, model: Sam3dAdapter, folder: Path, parent: str, inherited: Mapping[str, object]) -> None:
        provenance = {
            "preset": self.preset.name,
            "parent": parent,
            "data": f"{len(self.data.train)} labels submitted on a server",
            "licence": f"as the labels; the parent's: {inherited.get('licence', 'not stated')}",
            "started_by": self.settings.started_by,
        }
        with replacing(folder / "candidate.safetensors") as partial:
            save_trained(model.cpu(), partial, provenance=provenance, dtype=torch.float16)

    def _tell(self, **changes: Any) -> None:
        if not rank():
            self.progress.update(**changes)
