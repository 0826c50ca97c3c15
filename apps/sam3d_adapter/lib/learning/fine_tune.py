"""A fine-tuning round: train on submitted labels, measure, let the gate decide, and keep what came of it.

Every stage ends with a file that is whole or not there, so that a round that was killed at any moment is gone on with
by the next one, and what is served is whole all the while.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.evaluation.cases import Source
from lib.evaluation.record import Record
from lib.evaluation.summary import summarise
from lib.files.checksums import file_sha256
from lib.learning.forgetting import retention_words
from lib.learning.gate import Decision, decide
from lib.learning.progress import ProgressFile
from lib.learning.publishing import Outcome, publish_or_refuse
from lib.learning.reference_versions import Compared, find_compared
from lib.learning.rehearsal import Replay
from lib.learning.run import DECIDING, DONE, MEASURING, TRAINING, VALIDATED, Run, forget_finished, open_run
from lib.learning.settings import BEST, SERVED, TrainSettings
from lib.learning.training import RETENTION_FILE, CandidateTraining
from lib.learning.training_data import Material, NothingToLearn, nothing_to_learn
from lib.learning.up_to_date import nothing_new, wanted
from lib.learning.validation_snapshot import forget_validation, keep_validation, kept_sources, on_the_same
from lib.learning.version_page import write_versions_page
from lib.presets import Preset
from lib.registry.reader import CURVE
from lib.registry.version import SHIPPED, Facts, Version
from lib.registry.versions import Versions
from lib.training.distributed import rank, shared_text

logger = logging.getLogger(__name__)

KEPT_VERSIONS, KEPT_RUNS = 10, 3
"""KEPT_VERSIONS: of those that were neither served nor imported."""
Measure = Callable[[Path, Sequence[Source], Path], list[Record]]
"""Weights, images and truths to measure on, a folder of its own: the records of their dialogues."""


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
        replay: what keeps the model from forgetting; None for nothing.
        progress: told how far it is.
        precision: one of `lib.models.precision.PRECISIONS`.
    """

    preset: Preset
    files: tuple[Path, Path]
    versions: Versions
    material: Material
    settings: TrainSettings
    measure: Measure
    progress: ProgressFile
    replay: Replay | None = None
    precision: str = "auto"

    def __call__(self) -> Outcome | None:
        """The outcome, on the first of several processes; None on the others.

        Raises:
            NothingToLearn: no case to train on, or nothing has changed since the last round.
            RegistryError: a parent that is not here, or a served version that nothing can be compared with.
            CheckpointError: weights that do not verify.
            MemoryShortageError: it does not fit into memory.
            OSError: the disk is full; what is served stays as it is.
        """
        if not self.material.train:
            raise NothingToLearn(nothing_to_learn(self.material, self.preset.name))
        parent = self._parent()
        if rank():
            if folder := shared_text(""):
                self._training()(Path(folder), parent, self.weights_of(parent))
            return None
        facts = self._facts(parent)
        if why := nothing_new(self.versions, facts, self.settings):
            shared_text("")
            raise NothingToLearn(why)
        if self.material.validation:
            self._compared()  # now, and not only when all is trained
        run, goes_on = open_run(self.versions.folder / "runs", facts, fresh=self.settings.fresh)
        logger.info("%s run %s from %s.", "Going on with" if goes_on else "Starting", run.id, parent)
        if parent != SHIPPED:
            self.versions.pin(run.id, parent)
        if run.stage in (TRAINING, MEASURING):
            keep_validation(run.folder, self.material.validation, self.material.pseudonym)
        if run.stage == TRAINING:
            shared_text(str(run.folder))
            self._training()(run.folder, parent, self.weights_of(parent))
            run.advance(MEASURING)
        else:
            shared_text("")
        if run.stage == MEASURING:
            run.advance(DECIDING, **self._measured(run))
        outcome = self._decided(run, parent)
        run.advance(DONE, version=outcome.version, published=outcome.published, wanted=wanted(self.settings))
        forget_validation(run.folder)
        self.versions.unpin(run.id)
        self.versions.prune(KEPT_VERSIONS, in_use=self.versions.answered_or_imported())
        write_versions_page(self.versions)
        forget_finished(run.folder.parent, KEPT_RUNS)
        return outcome

    def _training(self) -> CandidateTraining:
        return CandidateTraining(
            preset=self.preset,
            base=self.files[0],
            material=self.material,
            settings=self.settings,
            progress=self.progress,
            replay=self.replay,
            precision=self.precision,
        )

    def weights_of(self, version: str) -> Path:
        """The file of a version.

        Raises:
            RegistryError: there is none.
        """
        return self.files[1] if version == SHIPPED else self.versions.weights(version)

    def _parent(self) -> str:
        asked = self.settings.parent
        if asked in (SERVED, BEST):
            found = self.versions.served() if asked == SERVED else self.versions.best()
            return found.id if found is not None else SHIPPED
        return asked if asked == SHIPPED else self.versions.get(asked).id

    def _facts(self, parent: str) -> dict[str, Any]:
        settings = self.settings
        validation = sorted(f"{case.image_sha256}:{case.label_sha256}" for case in self.material.validation)
        return {
            "preset": self.preset.name,
            "size": self.preset.model.size,
            "parent": parent,
            "parent_sha256": file_sha256(self.weights_of(parent)),
            "train": list(self.material.hashes()),
            VALIDATED: validation,
            "max_epochs": settings.max_epochs,
            "label_name": settings.label_name,
            "seed": settings.seed,
        }

    def _measured(self, run: Run) -> dict[str, Any]:
        """Records of the candidate, the served and the best version on the validation cases, in folders of the run."""
        material = self.material
        if not kept_sources(run.folder, material.validation, material.pseudonym, self.preset.name):
            return {"measured": {}}
        compared = self._compared()
        found = {"measured": {"served": compared.served, "best": compared.best}, "remarks": list(compared.remarks)}
        if any(run.results.get(key) != value for key, value in found.items()):
            # Killed while others were in force: their records are of no use.
            for name in ("served", "best"):
                shutil.rmtree(run.folder / "measured" / name, ignore_errors=True)
            run.advance(MEASURING, **found)
        files = {"candidate": run.folder / "candidate.safetensors"}
        files |= {name: self.weights_of(version) for name, version in compared.measured.items()}
        for name, weights in files.items():
            self._tell(stage=f"measuring the {name} version")
            sources = kept_sources(run.folder, material.validation, material.pseudonym, self.preset.name)
            self.measure(weights, sources, run.folder / "measured" / name)
        return found

    def _compared(self) -> Compared:
        return find_compared(self.versions, self.files[0], self.preset.model.size, self.weights_of)

    def _records(self, run: Run) -> dict[str, list[Record]]:
        folders = sorted((run.folder / "measured").glob("*/cases.jsonl"))
        records = {
            path.parent.name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
            for path in folders
        }
        return on_the_same(run.folder, records)

    def _decided(self, run: Run, parent: str) -> Outcome:
        self._tell(stage="deciding")
        records = self._records(run)
        decision = None
        if records:
            decision = decide(records["candidate"], records["served"], records.get("best", records["served"]))
        retention = _retention(run)
        reasons = (*self._reasons(decision), *run.results.get("remarks", ()), *retention_words(retention))
        version = self._added(run, parent, records, decision, retention, reasons)
        outcome = self._published(version, decision, reasons)
        self._tell(stage="done", version=version.id, published=outcome.published, reasons=outcome.reasons)
        return outcome

    def _added(
        self,
        run: Run,
        parent: str,
        records: Mapping[str, list[Record]],
        decision: Decision | None,
        retention: Mapping[str, Any],
        reasons: Sequence[str],
    ) -> Version:
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
                "reasons": list(reasons),
                "retention": dict(retention),
                "cases": {"train": len(self.material.train), "validation": len(self.material.validation)},
                "real_users": dict(self.material.real),
            },
            files={CURVE: curve, **measured},
        )
        return self.versions.add(run.folder / "candidate.safetensors", facts)

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


def _retention(run: Run) -> dict[str, Any]:
    """What was measured of what the parent could do; nothing of a run that began before that was measured."""
    path = run.folder / RETENTION_FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


NO_VALIDATION = (
    "Not published; the served model stays. There is no label of a validation patient yet, on whom it could be shown "
    "to be no worse. Submit more labels, or let a named person publish it by hand."
)


def scores(records: Sequence[Record]) -> dict[str, Any]:
    """Of `lib.evaluation.summary.summarise`, what a version's page shows."""
    summary = summarise(records)
    return {name: summary[name] for name in ("n", "dice_at", "nsd2_at", "dsc_auc", "noc85", "failure85", "drop_rate")}
