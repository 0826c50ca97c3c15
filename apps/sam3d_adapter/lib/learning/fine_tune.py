"""A fine-tuning round: train on submitted labels, measure, let the gate decide, keep the version.

Every stage ends with an atomic write. So the next round resumes one that was killed at any moment, and the served
version is intact all the time.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.evaluation.cases import Source
from lib.evaluation.measure import MeasureVersion
from lib.evaluation.record import Record
from lib.evaluation.summary import summarise
from lib.files.checksums import file_sha256
from lib.files.folders import remove_leftovers
from lib.learning.candidate import CANDIDATE_FILE, FORGETTING_FILE, CandidateJob
from lib.learning.forgetting import forgetting_sentences
from lib.learning.gate import Decision, decide
from lib.learning.progress import ProgressFile
from lib.learning.publishing import Outcome, ReferenceVersions, find_reference_versions, publish_or_refuse
from lib.learning.rehearsal import Rehearsal
from lib.learning.run import (
    DECIDING,
    DONE,
    MEASURING,
    TRAINING,
    VALIDATED,
    Run,
    no_new_labels_reason,
    open_run,
    outcome_settings,
    remove_finished_runs,
    up_to_date_reason,
)
from lib.learning.settings import BEST, SERVED, TrainSettings
from lib.learning.training_data import NothingToLearn, TrainingData
from lib.learning.validation_snapshot import (
    on_common_cases,
    remove_validation_snapshot,
    save_validation_snapshot,
    snapshot_sources,
    snapshot_structures,
)
from lib.learning.versions_page import PAGE, write_versions_page
from lib.presets import Preset
from lib.registry.reader import CURVE
from lib.registry.version import SHIPPED, Facts, Version
from lib.registry.versions import Versions
from lib.segmenters import families
from lib.segmenters.contract import Family
from lib.segmenters.frozen_store import FrozenStore
from lib.training.distributed import from_first, rank

logger = logging.getLogger(__name__)

KEPT_VERSIONS, KEPT_RUNS = 10, 3
"""KEPT_VERSIONS: versions that were neither served nor imported."""


@dataclass(frozen=True)
class FineTuning:
    """One round for one preset.

    Attributes:
        preset: to fine-tune.
        app_dir: folder to which the preset's file names are relative.
        versions: of the preset.
        data: training and validation cases.
        settings: of the request.
        progress: file to update.
        rehearsal: synthetic lesions against forgetting; None for none.
        precision: one of `lib.models.precision.PRECISIONS`.
        needs_new_labels: train only if the labels have changed since the last training that was finished.
    """

    preset: Preset
    app_dir: Path
    versions: Versions
    data: TrainingData
    settings: TrainSettings
    progress: ProgressFile
    rehearsal: Rehearsal | None = None
    precision: str = "auto"
    needs_new_labels: bool = False

    def __call__(self) -> Outcome | None:
        """Runs the round; returns the outcome in the first of several processes, None in the others.

        Raises:
            NothingToLearn: no case to train on, or nothing has changed since the last round.
            RegistryError: the parent is not here, or the served version cannot be loaded.
            CheckpointError: weights that do not verify.
            MemoryShortageError: it does not fit into memory.
            OSError: the disk is full; the served version stays.
        """
        if not self.data.train:
            raise NothingToLearn(self.data.why_nothing(self.preset.name))
        parent = from_first(self._parent)
        facts = from_first(lambda: self._facts(parent))
        if why := from_first(lambda: self._why_not(facts)):
            raise NothingToLearn(why)
        run = from_first(lambda: self._opened_run(parent, facts))
        if run.stage == TRAINING:
            self._train(run.folder, parent)
            if not rank():
                run.advance(MEASURING)
        if rank():
            return None
        if run.stage == MEASURING:
            run.advance(DECIDING, **self._measured(run))
        outcome = self._decided(run, parent)
        wanted = outcome_settings(self.settings)
        run.advance(DONE, version=outcome.version, published=outcome.published, wanted=wanted)
        remove_validation_snapshot(run.folder)
        self.versions.unpin(run.id)
        self.versions.prune(KEPT_VERSIONS, in_use=self.versions.answered_or_imported())
        write_versions_page(self.versions)
        remove_finished_runs(run.folder.parent, KEPT_RUNS)
        return outcome

    def _why_not(self, facts: Mapping[str, Any]) -> str | None:
        """Why a round need not start; None if it must."""
        if self.needs_new_labels and (why := no_new_labels_reason(self.versions, facts)):
            return why
        return up_to_date_reason(self.versions, facts, self.settings)

    def _opened_run(self, parent: str, facts: Mapping[str, Any]) -> Run:
        """The run on the disk, with a snapshot of what its models are measured on."""
        if self.data.validation:
            self._reference_versions()  # raises before the training, not after it
        run, is_resumed = open_run(self.versions.folder / "runs", facts, fresh=self.settings.fresh)
        logger.info("%s run %s from %s.", "Resuming" if is_resumed else "Starting", run.id, parent)
        if is_resumed and not rank():
            self.progress.update(epoch=min(self.progress.before.epoch, self.progress.value.total_epochs))
        if parent != SHIPPED:
            self.versions.pin(run.id, parent)
        if run.stage in (TRAINING, MEASURING):
            save_validation_snapshot(run.folder, self.data.validation, self.data.pseudonym)
        return run

    def _train(self, folder: Path, parent: str) -> None:
        recipe = self._family.training_recipe()
        assert recipe is not None  # without one the preset has no train task
        recipe.train(
            CandidateJob(
                preset=self.preset,
                files=self._files_with(self.weights_of(parent)),
                parent=parent,
                folder=folder,
                data=self.data,
                settings=self.settings,
                progress=self.progress,
                rehearsal=self.rehearsal,
                precision=self.precision,
            )
        )

    @property
    def _files(self) -> tuple[Path, ...]:
        """The files that the preset names, the weights last."""
        return tuple(self.app_dir / file for file in self.preset.model.files)

    @property
    def _family(self) -> Family:
        return families()[self.preset.model.family]

    def _files_with(self, weights: Path) -> dict[str, Path]:
        """The network's files by the keys of its family, with these weights."""
        return dict(zip(self._family.files, (*self._files[:-1], weights), strict=True))

    def weights_of(self, version: str) -> Path:
        """The file of a version.

        Raises:
            RegistryError: there is none.
        """
        return self._files[-1] if version == SHIPPED else self.versions.weights(version)

    def _parent(self) -> str:
        asked = self.settings.parent
        if asked in (SERVED, BEST):
            found = self.versions.served() if asked == SERVED else self.versions.best()
            return self._without_rejected(found)
        return asked if asked == SHIPPED else self.versions.get(asked).id

    def _without_rejected(self, version: Version | None) -> str:
        """The version, or the one that it came from before a label was learned from that has been rejected since."""
        known = {one.id: one for one in self.versions.versions()}
        line = []
        while version is not None:
            line.append(version)
            parent = version.parent or SHIPPED
            version = known.get(parent) or self.versions.pruned().get(parent)
        kept = SHIPPED
        for one in reversed(line):
            if any(pair.rpartition(":")[2] in self.data.rejected for pair in one.data):
                logger.warning("Version %s learned from a label that was rejected; training starts before it.", one.id)
                break
            # The weights of others were removed.
            kept = one.id if one.id in known else kept
        return kept

    def _facts(self, parent: str) -> dict[str, Any]:
        settings = self.settings
        validation = sorted(f"{case.image_sha256}:{case.label_sha256}" for case in self.data.validation)
        return {
            "preset": self.preset.name,
            "size": self.preset.model.size,
            "parent": parent,
            "parent_sha256": file_sha256(self.weights_of(parent)),
            "train": list(self.data.hashes()),
            VALIDATED: validation,
            "max_epochs": settings.max_epochs,
            "label_name": settings.label_name,
            "seed": settings.seed,
        }

    def _measured(self, run: Run) -> dict[str, Any]:
        """Measures the candidate, the served and the best version on the validation cases; the run has the records."""
        if not self._sources(run):
            return {"measured": {}}
        reference = self._reference_versions()
        found = {"measured": {"served": reference.served, "best": reference.best}, "remarks": list(reference.remarks)}
        if any(run.results.get(key) != value for key, value in found.items()):
            # It was killed while other versions were in force: their records are useless.
            for name in ("served", "best"):
                shutil.rmtree(run.folder / "measured" / name, ignore_errors=True)
            run.advance(MEASURING, **found)
        files = {"candidate": run.folder / CANDIDATE_FILE}
        files |= {name: self.weights_of(version) for name, version in reference.to_measure.items()}
        threads = len(os.sched_getaffinity(0))
        measure = MeasureVersion(self.preset, self.app_dir, self.settings.device, self.precision, threads)
        for name, weights in files.items():
            self._tell(stage=f"measuring the {name} version")
            measure(weights, self._sources(run), run.folder / "measured" / name)
        return found

    def _sources(self, run: Run) -> list[Source]:
        return snapshot_sources(run.folder, self.data.validation, self.data.pseudonym, self.preset.name)

    def _reference_versions(self) -> ReferenceVersions:
        def load(weights: Path) -> object:
            return self._family.load(self.preset.model.size, self._files_with(weights), "cpu", FrozenStore())

        return find_reference_versions(self.versions, load, self.weights_of)

    def _records(self, run: Run) -> dict[str, list[Record]]:
        folders = sorted((run.folder / "measured").glob("*/cases.jsonl"))
        records = {
            path.parent.name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
            for path in folders
        }
        return on_common_cases(run.folder, records)

    def _decided(self, run: Run, parent: str) -> Outcome:
        self._tell(stage="deciding")
        records = self._records(run)
        decision = None
        if records:
            structures = snapshot_structures(self.data.validation, self.data.pseudonym)
            best = records.get("best", records["served"])
            decision = decide(records["candidate"], records["served"], best, structures)
        forgetting = _forgetting(run)
        reasons = (*self._reasons(decision), *run.results.get("remarks", ()), *forgetting_sentences(forgetting))
        version = self._added(run, parent, records, decision, forgetting, reasons)
        outcome = self._published(version, decision, reasons)
        self._tell(stage="done", version=version.id, published=outcome.published, reasons=outcome.reasons)
        return outcome

    def _added(
        self,
        run: Run,
        parent: str,
        records: Mapping[str, list[Record]],
        decision: Decision | None,
        forgetting: Mapping[str, Any],
        reasons: Sequence[str],
    ) -> Version:
        """Adds the version of a run, or finds it where the run was killed after adding it."""
        for version in self.versions.versions():
            if version.metrics.get("run") == run.id:
                return version
        files = {f"{name}.jsonl": run.folder / "measured" / name / "cases.jsonl" for name in records}
        curve = run.folder / f"{self.preset.model.size}_curve.json"
        if curve.exists():  # not every recipe has one
            files[CURVE] = curve
        facts = Facts(
            started_by=self.settings.started_by,
            parent=parent,
            data=self.data.hashes(),
            metrics={
                "run": run.id,
                "compared_with": run.results.get("measured", {}),
                "validation": {name: scores(found) for name, found in records.items()},
                "decision": None if decision is None else decision.as_json(),
                "reasons": list(reasons),
                "retention": dict(forgetting),
                "cases": {"train": len(self.data.train), "validation": len(self.data.validation)},
                "real_users": dict(self.data.real),
            },
            files=files,
        )
        return self.versions.add(run.folder / CANDIDATE_FILE, facts)

    def _reasons(self, decision: Decision | None) -> tuple[str, ...]:
        if decision is None:
            return (NO_VALIDATION,)
        if not self.settings.publish:
            return ("Kept and not published, as it was asked for.", *decision.reasons[1:])
        return decision.reasons

    def _published(self, version: Version, decision: Decision | None, reasons: tuple[str, ...]) -> Outcome:
        return publish_or_refuse(self.versions, version, decision if self.settings.publish else None, reasons)

    def _tell(self, **changes: Any) -> None:
        if not rank():
            self.progress.update(**changes)


def _forgetting(run: Run) -> dict[str, Any]:
    """Scores of held-out synthetic lesions before and after; empty for a run of an earlier release."""
    path = run.folder / FORGETTING_FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


NO_VALIDATION = (
    "Not published; the served model stays. There is no label of a validation patient yet, on whom it could be shown "
    "to be no worse. Submit more labels, or let a named person publish it by hand."
)


def scores(records: Sequence[Record]) -> dict[str, Any]:
    """The part of `lib.evaluation.summary.summarise` that the versions page shows."""
    summary = summarise(records)
    return {name: summary[name] for name in ("n", "dice_at", "nsd2_at", "dsc_auc", "noc85", "failure85", "drop_rate")}


def remove_partial_files(folder: Path) -> None:
    """Cleanup of what killed trainings left half written; only for the holder of the training's lock.

    The registry removes its own partial files, among them ``holds``, under its own lock.

    Args:
        folder: of the preset and size.
    """
    left = [*folder.glob("progress.json.*.partial"), *folder.glob(f"{PAGE}.*.partial")]
    left += [path for path in folder.glob("runs/*/*.partial") if not path.name.startswith("holds.")]
    remove_leftovers(left)
