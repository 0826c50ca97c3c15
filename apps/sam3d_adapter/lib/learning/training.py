"""The training of a round: from a parent version and labels to the weights of a candidate."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib.annotations.submitted_set import SubmittedDataSet
from lib.evaluation.ledger import write_json
from lib.files.atomic_write import replacing
from lib.learning.forgetting import Retention
from lib.learning.progress import ProgressFile
from lib.learning.rehearsal import Replay
from lib.learning.settings import TrainSettings
from lib.learning.training_data import Material
from lib.models.checkpoint import load_model, save_trained
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import mark_trainable
from lib.presets import Preset
from lib.training.distributed import first_before_others, rank, world_size
from lib.training.sampling import for_training, for_validation
from lib.training.state import Progress
from lib.training.stream import Batch, SampleStream, Source
from lib.training.tracking import open_tracker
from lib.training.train import TrainingConfig, train

RETENTION_FILE = "retention.json"
BATCH = 4
"""Samples of a step."""
STEPS_PER_EPOCH = 50
PEAK_LR = 1e-3
"""Half of what training from scratch takes: what is learned comes nearly as fast, and less is forgotten for it."""
EMA_DECAY = 0.98
PATIENCE = 4
"""Epochs without a better Dice on the validation cases, after which training ends."""
RECORDED_SHARE = 0.5
"""Of the samples of objects on which real clicks are recorded."""
VALIDATION_BATCHES = 8
WORKERS = 1


@dataclass(frozen=True)
class CandidateTraining:
    """Trains a candidate.

    Attributes:
        preset: whose network is trained.
        base: the preset's frozen weights.
        material: labels.
        settings: of the request.
        progress: told how far it is.
        replay: what keeps the model from forgetting; None for nothing.
        precision: one of `lib.models.precision.PRECISIONS`.
    """

    preset: Preset
    base: Path
    material: Material
    settings: TrainSettings
    progress: ProgressFile
    replay: Replay | None
    precision: str

    def __call__(self, folder: Path, parent: str, weights: Path) -> None:
        """Leaves ``candidate.safetensors`` and ``retention.json`` in the run's folder, written by the first process.

        Args:
            folder: of the run; what an earlier, stopped training left there is gone on with.
            parent: version that it starts from.
            weights: of that.
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
            patience=PATIENCE if self.material.validation else None,
            seed=settings.seed,
            workers=WORKERS,
            precision=self.precision,
        )
        retention = Retention.of(None if rank() else self.replay, config.interaction, self.precision)
        before = retention.measure(model)
        tracker = open_tracker(settings.tracking if not rank() else "none", folder.parents[1], preset.name, folder.name)
        try:
            progress = train(model, stream, self._batches(), config, folder, self._reporter(config, tracker.point))
        finally:
            tracker.close()
        if not rank():
            write_json(folder / RETENTION_FILE, {"before": before, "after": retention.measure(model)})
            self._save(model, folder, parent, report.provenance)
            curve = tuple(progress.curve)
            epochs = max(1, math.ceil(progress.step / STEPS_PER_EPOCH))
            # However early it ended, for whoever watches it is complete.
            self._tell(epoch=epochs, total_epochs=epochs, seconds_left=0.0, curve=curve)

    def _sources(self) -> list[Source]:
        material, seed = self.material, self.settings.seed
        labels = SubmittedDataSet(material.train, self.preset, recorded=material.recorded, seed=seed)
        if self.replay is None:
            return [labels]
        labels.share = 1 - self.replay.share
        return [labels, *first_before_others(self.replay.pools)]

    def _batches(self) -> list[Batch]:
        if rank() or not self.material.validation:
            return []
        # The samples are few, and not to be all of one case where no two fit into memory.
        pool = SubmittedDataSet(self.material.validation, self.preset, stay=1)
        stream = iter(SampleStream([pool], for_validation(self.preset.roi.size), seed=0, batch=2))
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
            "data": f"{len(self.material.train)} labels submitted on a server",
            "licence": f"as the labels; the parent's: {inherited.get('licence', 'not stated')}",
            "started_by": self.settings.started_by,
        }
        with replacing(folder / "candidate.safetensors") as partial:
            save_trained(model.cpu(), partial, provenance=provenance, dtype=torch.float16)

    def _tell(self, **changes: Any) -> None:
        if not rank():
            self.progress.update(**changes)
