"""The train task of one preset, as MONAI Label starts it: from OHIF, Slicer or ``POST /train``."""

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from lib.annotations.label_snapshots import KeptLabels
from lib.annotations.patients import PatientBook
from lib.annotations.real_clicks import costs, presets_used, read_real_clicks
from lib.annotations.splits import VALIDATION, Splits
from lib.annotations.submitted import read_submitted
from lib.audit.log import AuditLog
from lib.files.lock import is_locked, wait_for_lock
from lib.host.pacs.labels import pacs_labels
from lib.host.saved_labels import saved_labels, studies_folder
from lib.learning.cleanup import sweep_training
from lib.learning.fine_tune import FineTuning, Measure
from lib.learning.progress import ENDS, ProgressFile
from lib.learning.rehearsal import Replay
from lib.learning.settings import TrainSettings, read_settings, shown_settings
from lib.learning.training_data import Material, NothingToLearn
from lib.presets import Preset
from lib.registry.registry import Registry
from lib.training.distributed import rank, world_size

logger = logging.getLogger(__name__)


LOOK_S = 1.0
"""Longer than anybody who asks how far a training is looks at its lock."""


class TrainingRunningError(RuntimeError):
    """The preset is being trained by another process."""


class FineTuneTask(TrainTask):
    """Fine-tunes the network of a preset on the labels that were submitted.

    Building it reads nothing: the server and every background task build one for each preset.

    Args:
        preset: whose network.
        app_dir: folder against which the preset's files are named.
        registry: of versions.
        audit_log: where real clicks are recorded.
        measure: of a preset and a device, what holds dialogues with a model.
        replay: what keeps a model from forgetting.
        trainers: names of all train tasks.
        structures: names of what the presets segment; others in a PACS were not made with this app.
        precision: one of `lib.models.precision.PRECISIONS`.
        patient_pattern: which part of an image's id is the patient; see `PatientBook`.
    """

    def __init__(
        self,
        preset: Preset,
        app_dir: Path,
        registry: Registry,
        audit_log: AuditLog,
        measure: Callable[[Preset, str], Measure],
        replay: Callable[[Preset], Replay] | None,
        *,
        trainers: Collection[str] = (),
        structures: Collection[str] = (),
        precision: str = "auto",
        patient_pattern: str | None = None,
    ) -> None:
        super().__init__(f"Fine-tunes preset '{preset.name}' on submitted labels; a gate decides what is served.")
        self.preset = preset
        self._files = (app_dir / preset.model.files[0], app_dir / preset.model.files[-1])
        self._registry, self._audit_log = registry, audit_log
        self._measure, self._replay = measure, replay
        self._trainers, self._structures, self._precision = tuple(trainers), tuple(structures), precision
        self._patient_pattern = patient_pattern
        self.versions = registry.of(preset.name, preset.model.size, preset.model.family)
        self._progress = ProgressFile(self.versions.folder / "progress.json")
        self._lock = self.versions.folder / "training.lock"

    def config(self) -> dict[str, Any]:
        """What viewers let a user set."""
        return shown_settings()

    def stats(self) -> dict[str, Any]:
        """Of the newest training; read from a file, because it runs in a process of its own."""
        found = self._progress.read()
        if found is not None and found.stage not in ENDS and not is_locked(self._lock):
            # It may just have come to its end, or another one begun.
            again = self._progress.read()
            found = found.stopped() if again == found else again
        return found.stats() if found else {}

    def read(self, request: Mapping[str, Any]) -> TrainSettings:
        """What a request asks for.

        Raises:
            SettingError: an unknown key, or a value that cannot be used.
        """
        return read_settings(request, self._trainers)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """One round, in this process and those that train with it (torch.distributed).

        Raises:
            SettingError: of the request.
            TrainingRunningError: another process trains this preset.
        """
        settings = self.read(request)
        lower_priority()
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world_size()))
        if rank():
            return self._round(settings, datastore)
        with self._only_one():
            self._progress.start()
            try:
                return self._round(settings, datastore)
            except BaseException as error:
                reasons = (str(error) or type(error).__name__,)
                self._progress.update(stage="failed", reasons=reasons, seconds_left=None)
                raise

    def _round(self, settings: TrainSettings, datastore: Datastore) -> dict[str, Any]:
        material = self.material(datastore, settings.label_name)
        for sentence in material.skipped:
            logger.warning(sentence)
        numbers = {"train": len(material.train), "validation": len(material.validation)}
        if not rank():
            self._progress.update(cases=numbers, skipped=tuple(material.skipped))
        replay = self._replay
        tuning = FineTuning(
            preset=self.preset,
            files=self._files,
            versions=self.versions,
            material=material,
            settings=settings,
            measure=self._measure(self.preset, settings.device),
            progress=self._progress,
            replay=None if replay is None else replay(self.preset),
            precision=self._precision,
        )
        try:
            outcome = tuning()
        except NothingToLearn as error:
            # Not a failure: "Update Model" of OHIF trains every preset, most of which have no labels.
            logger.info(str(error))
            if not rank():
                self._progress.update(stage="nothing to learn from", reasons=(str(error),))
            return {"version": None, "published": False, "reasons": [str(error)]}
        if outcome is None:
            return {}
        for sentence in outcome.reasons:
            logger.info(sentence)
        return {**asdict(outcome), "reasons": list(outcome.reasons)}

    def material(self, datastore: Datastore, label_name: str | None = None) -> Material:
        """What the data store holds for this preset, split by patient.

        Raises:
            PatientsError: patients that contradict one another.
            SplitsError: a split that is damaged.
        """
        book = PatientBook(studies_folder(datastore), self._patient_pattern)
        kept = KeptLabels(self._registry.learning_dir / "labels")
        # Of a PACS those that were fetched before, which is where clicks were answered, though they may be gone again.
        images = {*LocalDatastore.list_images(datastore), *(label.image_id for label in kept.labels())}
        used = presets_used(self._audit_log, images)
        if isinstance(datastore, DICOMWebDatastore):
            saved = pacs_labels(datastore, kept, expected=self._structures, clicked=used)
        else:
            saved = saved_labels(datastore)
        found = read_submitted(saved, self.preset, book.patient_of, label_name=label_name, made_with=used)
        book.report()
        splits = Splits(self._registry.learning_dir)
        sides = splits.assign({case.image_id: case.patient for case in found.cases})
        validation = [case for case in found.cases if sides[case.image_id] == VALIDATION]
        real = read_real_clicks(self._audit_log, found.cases, self.preset.name)
        return Material(
            train=[case for case in found.cases if case not in validation],
            validation=validation,
            pseudonym=splits.pseudonyms(),
            skipped=[skipped.sentence for skipped in found.skipped],
            recorded=real,
            real={version: asdict(cost) for version, cost in costs(real).items()},
        )

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not wait_for_lock(fd, LOOK_S):
                raise TrainingRunningError(
                    f"Preset '{self.preset.name}' is being trained by another process on this folder. Wait for it to "
                    "end."
                )
            sweep_training(self.versions.folder)
            yield
        finally:
            os.close(fd)


def lower_priority(by: int = 10) -> None:
    """Let whoever clicks go first on a busy processor."""
    os.nice(by)
