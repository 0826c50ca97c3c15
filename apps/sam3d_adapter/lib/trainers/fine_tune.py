"""A fine-tuning round: train on submitted labels, measure, let the gate decide, and keep what came of it.

Every stage ends with a file that is whole or not there, so that a round that was killed at any moment is gone on with
by the next one, and what is served is whole all the while.
"""

import dataclasses
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib.evaluation.record import Record
from lib.evaluation.summary import summarise
from lib.learning.gate import Decision, decide
from lib.learning.pools import Pool
from lib.learning.sampling import for_training, for_validation
from lib.learning.state import Progress
from lib.learning.stream import Batch, SampleStream, Source
from lib.learning.submitted import SubmittedCase
from lib.learning.submitted_pool import SubmittedPool
from lib.learning.tracking import open_tracker
from lib.learning.train import TrainingConfig, rank, train, world_size
from lib.models.checkpoint import file_sha256, load_model, save_trained
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import mark_trainable
from lib.models.whole_file import replacing
from lib.presets import Preset
from lib.registry.version import SHIPPED, Facts, Version
from lib.registry.versions import Versions
from lib.trainers.progress import ProgressFile
from lib.trainers.run import DECIDING, DONE, MEASURING, TRAINING, Run, forget_finished, open_run
from lib.trainers.settings import BEST, SERVED, TrainSettings
from lib.trainers.version_page import write_versions_page

logger = logging.getLogger(__name__)

BATCH = 4
"""Samples of a step."""
STEPS_PER_EPOCH = 50
PEAK_LR = 2e-3
EMA_DECAY = 0.98
PATIENCE = 4
"""Epochs without a better Dice on the validation cases, after which training ends."""
RECORDED_SHARE = 0.5
"""Of the samples of objects on which real clicks are recorded."""
VALIDATION_BATCHES = 8
POOL_BYTES = 2**29
KEPT_VERSIONS, KEPT_RUNS = 10, 3
WORKERS = 1

Measure = Callable[[Path, Sequence[SubmittedCase], Path], list[Record]]
"""Weights, validation cases, a folder of its own: the records of their dialogues."""


class NothingToLearn(RuntimeError):
    """There is nothing to train on, and why."""


@dataclass(frozen=True)
class Material:
    """What a round learns from.

    Attributes:
        train: cases to train on.
        validation: cases to measure on, of other patients.
        skipped: labels that were left out, a sentence each.
        recorded: by image id, what users clicked there; see `SubmittedPool`.
        real: what accepted masks cost their users, by model version; for the version's page.
    """

    train: Sequence[SubmittedCase]
    validation: Sequence[SubmittedCase]
    skipped: Sequence[str] = ()
    recorded: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    real: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def hashes(self) -> tuple[str, ...]:
        """sha256 of images and labels that are trained on, each pair in one text."""
        return tuple(sorted(f"{case.image_sha256}:{case.label_sha256}" for case in self.train))


@dataclass(frozen=True)
class Outcome:
    """What came of a round.

    Attributes:
        version: that it made.
        published: whether that is served now.
        reasons: sentences.
    """

    version: str
    published: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class FineTuning:
    """One round for one preset.

    Attributes:
        preset: whose network is trained.
        files: base and weights that the preset names.
        versions: of the preset.
        material: labels.
        settings: of the request.
        measure: holds dialogues with a model; see `Measure`.
        replay: makes the pool that keeps the model from forgetting; None for none.
        progress: told how far it is.
        precision: one of `lib.inference.precision.PRECISIONS`.
    """

    preset: Preset
    files: tuple[Path, Path]
    versions: Versions
    material: Material
    settings: TrainSettings
    measure: Measure
    progress: ProgressFile
    replay: Callable[[], Pool] | None = None
    precision: str = "auto"

    def __call__(self) -> Outcome | None:
        """The outcome, on the first of several processes; None on the others.

        Raises:
            NothingToLearn: no case to train on.
            RegistryError: a parent that is not here.
            CheckpointError: weights that do not verify.
            MemoryShortageError: it does not fit into memory.
            OSError: the disk is full; what is served stays as it is.
        """
        if not self.material.train:
            raise NothingToLearn(nothing_to_learn(self.material, self.preset.name))
        parent = self._parent()
        if rank():
            self._train(Path(_shared("")), parent)
            return None
        run, goes_on = open_run(self.versions.folder / "runs", self._facts(parent), fresh=self.settings.fresh)
        logger.info("%s run %s from %s.", "Going on with" if goes_on else "Starting", run.id, parent)
        if parent != SHIPPED:
            self.versions.hold(run.id, parent)
        if run.stage == TRAINING:
            _shared(str(run.folder))
            self._train(run.folder, parent, run)
            run.advance(MEASURING)
        else:
            _shared("")
        if run.stage == MEASURING:
            run.advance(DECIDING, **self._measured(run))
        outcome = self._decided(run, parent)
        run.advance(DONE, version=outcome.version, published=outcome.published)
        self.versions.release(run.id)
        self.versions.prune(KEPT_VERSIONS)
        write_versions_page(self.versions)
        forget_finished(run.folder.parent, KEPT_RUNS)
        return outcome

    def weights_of(self, version: str) -> Path:
        """The file of a version.

        Raises:
            RegistryError: there is none.
        """
        return self.files[1] if version == SHIPPED else self.versions.weights(version)

    def _parent(self) -> str:
        wanted = self.settings.parent
        if wanted in (SERVED, BEST):
            found = self.versions.served() if wanted == SERVED else self.versions.best()
            return found.id if found is not None else SHIPPED
        return wanted if wanted == SHIPPED else self.versions.get(wanted).id

    def _facts(self, parent: str) -> dict[str, Any]:
        settings = self.settings
        validation = sorted(f"{case.image_sha256}:{case.label_sha256}" for case in self.material.validation)
        return {
            "preset": self.preset.name,
            "size": self.preset.model.size,
            "parent": parent,
            "parent_sha256": file_sha256(self.weights_of(parent)),
            "train": list(self.material.hashes()),
            "validation": validation,
            "max_epochs": settings.max_epochs,
            "label_name": settings.label_name,
            "seed": settings.seed,
        }

    def _train(self, folder: Path, parent: str, run: Run | None = None) -> None:
        """Leaves ``candidate.safetensors`` in the folder of the run."""
        if not folder.name:
            return
        settings, preset = self.settings, self.preset
        self._tell(stage="training")
        device = torch.device(settings.device)
        model, report = load_model(size=preset.model.size, base=self.files[0], weights=self.weights_of(parent))
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
        tracker = open_tracker(settings.tracking if not rank() else "none", folder.parents[1], preset.name, folder.name)
        try:
            progress = train(model, stream, self._batches(), config, folder, self._reporter(config, tracker.point))
        finally:
            tracker.close()
        if run is not None:
            self._save(model, folder, parent, report.provenance)
            curve = tuple(progress.curve)
            epochs = max(1, math.ceil(progress.step / STEPS_PER_EPOCH))
            # However early it ended, for whoever watches it is complete.
            self._tell(epoch=epochs, total_epochs=epochs, seconds_left=0.0, curve=curve)

    def _sources(self) -> list[Source]:
        labels = SubmittedPool(self.material.train, self.preset, recorded=self.material.recorded, max_bytes=POOL_BYTES)
        if self.replay is None:
            return [labels]
        replay = _one_after_the_other(self.replay)
        labels.share = 1 - replay.share
        return [labels, replay]

    def _batches(self) -> list[Batch]:
        if rank() or not self.material.validation:
            return []
        pool = SubmittedPool(self.material.validation, self.preset, max_bytes=POOL_BYTES)
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

    def _measured(self, run: Run) -> dict[str, Any]:
        """Records of the candidate, the served and the best version on the validation cases, in folders of the run."""
        if not self.material.validation:
            return {"measured": {}}
        served, best = self.versions.served(), self.versions.best()
        others = {"served": served.id if served else SHIPPED, "best": best.id if best else SHIPPED}
        files = {"candidate": run.folder / "candidate.safetensors"}
        files |= {name: self.weights_of(version) for name, version in others.items()}
        if others["best"] == others["served"]:
            del files["best"]
        for name, weights in files.items():
            self._tell(stage=f"measuring the {name} version")
            self.measure(weights, self.material.validation, run.folder / "measured" / name)
        return {"measured": others}

    def _records(self, run: Run) -> dict[str, list[Record]]:
        folders = sorted((run.folder / "measured").glob("*/cases.jsonl"))
        return {
            path.parent.name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
            for path in folders
        }

    def _decided(self, run: Run, parent: str) -> Outcome:
        self._tell(stage="deciding")
        records = self._records(run)
        decision = None
        if records:
            decision = decide(records["candidate"], records["served"], records.get("best", records["served"]))
        version = self._added(run, parent, records, decision)
        outcome = self._published(version, decision)
        self._tell(stage="done", version=version.id, published=outcome.published, reasons=outcome.reasons)
        return outcome

    def _added(self, run: Run, parent: str, records: Mapping[str, list[Record]], decision: Decision | None) -> Version:
        """The version of a run; found again where the run was killed after it had been added."""
        for version in self.versions.versions():
            if version.metrics.get("run") == run.id:
                return version
        curve = run.folder / f"{self.preset.model.size}_curve.json"
        measured = {f"{name}.jsonl": run.folder / "measured" / name / "cases.jsonl" for name in records}
        facts = Facts(
            started_by=self.settings.started_by,
            parent=parent,
            data=self.material.hashes(),
            metrics={
                "run": run.id,
                "compared_with": run.results.get("measured", {}),
                "validation": {name: scores(found) for name, found in records.items()},
                "decision": None if decision is None else decision.as_json(),
                "reasons": list(self._reasons(decision)),
                "cases": {"train": len(self.material.train), "validation": len(self.material.validation)},
                "real_users": dict(self.material.real),
            },
            files={"curve.json": curve, **measured},
        )
        return self.versions.add(run.folder / "candidate.safetensors", facts)

    def _reasons(self, decision: Decision | None) -> tuple[str, ...]:
        if decision is None:
            return (NO_VALIDATION,)
        if not self.settings.publish:
            return ("Kept and not published, as it was asked for.", *decision.reasons[1:])
        return decision.reasons

    def _published(self, version: Version, decision: Decision | None) -> Outcome:
        reasons = self._reasons(decision)
        served = self.versions.served()
        if decision is not None and decision.publish and self.settings.publish:
            if served is None or served.id != version.id:
                self.versions.publish(version.id, "gate", " ".join(reasons), is_best=decision.is_new_best)
            return Outcome(version.id, True, reasons)
        if served is not None and served.id == version.id:
            return Outcome(version.id, True, ("A person published it in the meantime.",))
        self.versions.refuse(version.id, reasons)
        return Outcome(version.id, False, reasons)

    def _tell(self, **changes: Any) -> None:
        if not rank():
            self.progress.update(**changes)


NO_VALIDATION = (
    "Not published; the served model stays. There is no label of a validation patient yet, on whom it could be shown "
    "to be no worse. Submit more labels, or let a named person publish it by hand."
)


def nothing_to_learn(material: Material, preset: str) -> str:
    """Why there is nothing, in words for whoever asked."""
    lines = [f"There is no submitted label that preset '{preset}' can be trained on."]
    if material.validation:
        lines.append(f"{len(material.validation)} case(s) are of validation patients, who are never trained on.")
    lines += list(material.skipped[:5])
    return " ".join(lines)


def scores(records: Sequence[Record]) -> dict[str, Any]:
    """Of `lib.evaluation.summary.summarise`, what a version's page shows."""
    summary = summarise(records)
    return {name: summary[name] for name in ("n", "dice_at", "nsd2_at", "dsc_auc", "noc85", "failure85", "drop_rate")}


def _shared(text: str) -> str:
    """The first process's text, to all."""
    if world_size() == 1:
        return text
    held = [text]
    torch.distributed.broadcast_object_list(held, 0)
    return held[0]


def _one_after_the_other(make: Callable[[], Pool]) -> Pool:
    """The first process makes what the others then find."""
    if world_size() == 1:
        return make()
    if rank():
        torch.distributed.barrier()
    made = make()
    if not rank():
        torch.distributed.barrier()
    return made


def lower_priority(by: int = 10) -> None:
    """Let whoever clicks go first on a busy processor."""
    os.nice(by)
