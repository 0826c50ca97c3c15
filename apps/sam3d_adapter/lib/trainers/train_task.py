"""The train task of a preset, which MONAI Label starts for OHIF, Slicer or ``POST /train``."""

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

from lib.annotations.label_snapshots import LabelSnapshots
from lib.annotations.made_with import listed_modalities
from lib.annotations.patients import PatientBook
from lib.annotations.real_clicks import answers_on
from lib.annotations.reviewed import choose_labels
from lib.annotations.submitted import Learner
from lib.audit.log import AuditLog
from lib.files.lock import file_lock, is_locked, locked
from lib.host.pacs.labels import pacs_labels
from lib.host.saved_labels import saved_labels, studies_folder
from lib.host.workflow import Workflow
from lib.learning.arms import compare_arms, write_arms
from lib.learning.calibrate import Calibrating, NoCalibration
from lib.learning.fine_tune import FineTuning, remove_partial_files
from lib.learning.first_answers import FirstAnswers
from lib.learning.progress import ENDS, NOTHING, PROGRESS, ProgressFile
from lib.learning.rehearsal import Rehearsal
from lib.learning.served_dice import ServedDice
from lib.learning.settings import TrainSettings, read_settings, shown_settings
from lib.learning.training_data import NothingToLearn, TrainingData, collect_training_data
from lib.learning.validation_snapshot import MAX_PATIENTS
from lib.presets import Preset
from lib.registry.errors import RegistryError
from lib.registry.registry import Registry
from lib.serving.model_store import ModelSpec, ModelStore
from lib.serving.predicted_dice import Calibration, Calibrations
from lib.serving.preset_segmenter import MissingWeightsError, how_to_supply
from lib.serving.served_model import ServedModel
from lib.training.distributed import from_first, rank, world_size
from lib.workflow.first_dice import read_first_dice
from lib.workflow.reviews import SUBMITTED, rejected_files
from lib.workflow.served import read_served

logger = logging.getLogger(__name__)


LOCK_WAIT_S = 1.0
"""Longer than `stats` of other processes holds the lock while it checks it."""


class TrainingRunningError(RuntimeError):
    """The preset is being trained by another process."""


class FineTuneTask(TrainTask):
    """Fine-tunes a preset on submitted labels.

    The constructor reads no file: the server and every background task build one task per preset.

    Args:
        preset: to fine-tune.
        app_dir: folder to which the preset's file names are relative.
        registry: of versions.
        audit_log: has the recorded interactions.
        rehearsal: a preset -> synthetic lesions against forgetting; None for none.
        trainers: names of all train tasks.
        presets: all that are served, by name; segments in a PACS that are no structure of one are not from this app.
        precision: one of `lib.models.precision.PRECISIONS`.
        patient_pattern: part of an image id that names the patient; see `PatientBook`.
        workflow: has the review decisions on labels; None for that of the registry's folder.
        train_on: ``submitted`` for all labels that nobody refused, ``accepted`` for those that somebody accepted.
    """

    def __init__(
        self,
        preset: Preset,
        app_dir: Path,
        registry: Registry,
        audit_log: AuditLog,
        rehearsal: Callable[[Preset], Rehearsal] | None,
        *,
        trainers: Collection[str] = (),
        presets: Mapping[str, Preset] | None = None,
        precision: str = "auto",
        patient_pattern: str | None = None,
        workflow: Workflow | None = None,
        train_on: str = SUBMITTED,
    ) -> None:
        super().__init__(f"Fine-tunes preset '{preset.name}' on submitted labels; a gate decides what is served.")
        self.preset = preset
        self._app_dir = app_dir
        self._registry, self._audit_log = registry, audit_log
        self._rehearsal = rehearsal
        self._trainers, self._precision = tuple(trainers), precision
        self._presets = dict(presets or {preset.name: preset})
        self._patient_pattern, self._train_on = patient_pattern, train_on
        self._workflow = workflow or Workflow(registry.learning_dir)
        self.versions = registry.of(preset.name, preset.model.size, preset.model.family)
        self._progress = ProgressFile(self.versions.folder / PROGRESS)
        self._lock = self.versions.folder / "training.lock"
        model = preset.model
        spec = ModelSpec(model.family, model.size, tuple(app_dir / file for file in model.files))
        self._served = ServedModel(preset.name, spec, ModelStore(), self.versions)
        self._served_dice = ServedDice(self.versions)

    def config(self) -> dict[str, Any]:
        """Settings that viewers show."""
        return shown_settings()

    def info(self) -> dict[str, Any]:
        """As MONAI Label's, whether there are weights to begin with, and which labels are learned from."""
        problem = self._served.status().problem if self._served.missing_files() else None
        description = f"{self.description} [not available, {problem}]" if problem else self.description
        return {
            **super().info(), "description": description, "available": problem is None, "train_on": self._train_on,
        }  # fmt: skip

    def missing_weights(self) -> str | None:
        """Which files a training lacks, and how to get them; None where it can begin."""
        missing = self._served.missing_files()
        return how_to_supply(self.preset, missing, self._app_dir) if missing else None

    def stats(self) -> dict[str, Any]:
        """State of the newest training, from a file, because it runs in another process.

        ``best_metric``, which viewers show as the accuracy, is that of the version that is served.
        """
        found = self._progress.read()
        if found is not None and found.stage not in ENDS and not is_locked(self._lock):
            # It may just have ended, or another one begun.
            again = self._progress.read()
            found = found.stopped() if again == found else again
        dice = None
        # What is wrong with the versions, the tasks say.
        with contextlib.suppress(RegistryError, OSError):
            dice = self._served_dice.value()
        return (found.stats() if found else {}) | ({} if dice is None else {"best_metric": dice})

    def is_running(self) -> bool:
        """Whether any process trains this preset."""
        return is_locked(self._lock)

    def read(self, request: Mapping[str, Any]) -> TrainSettings:
        """The settings of a request.

        Raises:
            SettingError: an unknown key, or a value that cannot be used.
        """
        return read_settings(request, self._trainers)

    def __call__(
        self, request: Mapping[str, Any], datastore: Datastore, *, needs_new_labels: bool = False
    ) -> dict[str, Any]:
        """Runs one round, in this process and those that train with it (torch.distributed).

        Args:
            request: of the client.
            datastore: of the app.
            needs_new_labels: train only if the labels have changed since the last training that was finished.

        Raises:
            SettingError: the request cannot be used.
            MissingWeightsError: there are no weights to begin with.
            TrainingRunningError: another process trains this preset.
        """
        settings = self.read(request)
        if missing := self.missing_weights():
            raise MissingWeightsError(missing)
        lower_priority()
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world_size()))
        with contextlib.ExitStack() as alone:
            from_first(lambda: self._begin(alone, settings))
            try:
                result = self._round(settings, datastore, needs_new_labels)
            except BaseException as error:
                if not rank():
                    reasons = (str(error) or type(error).__name__,)
                    self._progress.update(stage="failed", reasons=reasons, seconds_left=None)
                raise
        if not rank():
            try:
                self.calibrate(datastore, settings.device)
            except NoCalibration as error:
                logger.info("Preset %s: %s", self.preset.name, error)
            # Broad: the training is done, whatever becomes of the predictions.
            except Exception:
                logger.exception("Preset %s: what answers are worth was not measured.", self.preset.name)
        return result

    def calibrate(self, datastore: Datastore, device: str) -> Calibration:
        """Learns to predict the Dice of what the served version answers, where patients have been labelled since.

        Args:
            datastore: of the app.
            device: ``cpu`` or ``cuda:N``.

        Raises:
            NoCalibration: there are too few patients, or another process is at it.
            MissingWeightsError: there are no weights.
            RegistryError: which version is served cannot be told.
            PatientsError, SplitsError: as `training_data`.
        """
        if missing := self.missing_weights():
            raise MissingWeightsError(missing)
        known = Calibrations(self.versions.folder, self.preset).of(self._served.weights_sha256())
        if known is not None and known.patients >= MAX_PATIENTS:
            return known
        data = self.training_data(datastore)
        cases = [*data.train, *data.validation]
        return Calibrating(self.preset, self._app_dir, self.versions, cases, data.pseudonym, device, self._precision)()

    def _begin(self, alone: contextlib.ExitStack, settings: TrainSettings) -> None:
        alone.enter_context(self._only_one())
        self._progress.start(settings.max_epochs)

    def _round(self, settings: TrainSettings, datastore: Datastore, needs_new_labels: bool) -> dict[str, Any]:
        data = from_first(lambda: self._listed(settings, datastore))
        if not rank():
            self._compare_arms(data, datastore)
        rehearsal = self._rehearsal
        tuning = FineTuning(
            preset=self.preset,
            app_dir=self._app_dir,
            versions=self.versions,
            data=data,
            settings=settings,
            progress=self._progress,
            rehearsal=None if rehearsal is None else rehearsal(self.preset),
            precision=self._precision,
            needs_new_labels=needs_new_labels,
        )
        try:
            outcome = tuning()
        except NothingToLearn as error:
            # Not a failure: "Update Model" in OHIF asks for every preset, and most have no labels.
            left_out = len(data.skipped)
            logger.info("Preset %s has nothing to learn; labels left out: %d.", self.preset.name, left_out)
            if not rank():
                self._progress.update(stage=NOTHING, reasons=(str(error),))
                if needs_new_labels:
                    # Nobody asked about this preset: what its last training said stays to be read.
                    self._progress.restore()
            return {"version": None, "published": False, "reasons": [str(error)]}
        if outcome is None:
            return {}
        for sentence in outcome.reasons:
            logger.info("%s", sentence)
        return {**asdict(outcome), "reasons": list(outcome.reasons)}

    def _listed(self, settings: TrainSettings, datastore: Datastore) -> TrainingData:
        """The training data; log and progress say how much it is."""
        data = self.training_data(datastore, settings.label_name)
        # By reason: an image's name may be that of a patient, and the report says it, not the log.
        for reason, count in data.reasons.items():
            logger.warning("Labels left out of the training of preset %s: %d, for %s.", self.preset.name, count, reason)
        numbers = {"train": len(data.train), "validation": len(data.validation)}
        self._progress.update(cases=numbers, skipped=tuple(data.skipped), notes=tuple(data.notes))
        return data

    def _compare_arms(self, data: TrainingData, datastore: Datastore) -> None:
        """Brings the comparison of Next Sample's choice with chance up to date."""
        answers = FirstAnswers(
            self._audit_log, self._app_dir, self._registry.learning_dir, self.preset.name, data.pseudonym
        )
        try:
            database = self._workflow.database(datastore)
            answers.measure([*data.train, *data.validation], data.recorded, database)
            with database.reading() as connection:
                compared = compare_arms(read_served(connection), read_first_dice(connection, self.preset.name))
            write_arms(self.versions.folder, compared)
        # Broad: whatever is wrong with it, the training need not wait for it.
        except Exception:
            logger.exception("Whether Next Sample chooses better than chance was not worked out.")

    def training_data(self, datastore: Datastore, label_name: str | None = None) -> TrainingData:
        """What the data store holds for this preset, split by patient.

        Raises:
            PatientsError: statements about patients contradict one another.
            SplitsError: the split is damaged.
        """
        book = PatientBook(studies_folder(datastore), self._patient_pattern)
        snapshots = LabelSnapshots(self._registry.learning_dir / "labels")
        # With a PACS, clicks were answered on fetched images, which may be gone from the cache by now.
        images = {*LocalDatastore.list_images(datastore), *(label.image_id for label in snapshots.labels())}
        answers = answers_on(self._audit_log, images)
        if isinstance(datastore, DICOMWebDatastore):
            structures = [label for preset in self._presets.values() for label in preset.labels]
            saved = pacs_labels(datastore, snapshots, expected=structures, clicked=answers)
        else:
            saved = saved_labels(datastore)
        known = self._workflow.read(datastore)
        saved = choose_labels(saved, known.newest, known.marks, self._train_on)
        modalities = listed_modalities(studies_folder(datastore))
        learner = Learner(self.preset, label_name, self._presets, answers, modalities)
        rejected = rejected_files(known.newest)
        return collect_training_data(saved, learner, book, self._registry.learning_dir, self._audit_log, rejected)

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        busy = TrainingRunningError(
            f"Preset '{self.preset.name}' is being trained by another process on this folder. Wait for it to end."
        )
        with locked(file_lock(self._lock, LOCK_WAIT_S), busy):
            remove_partial_files(self.versions.folder)
            yield


def lower_priority(to: int = 10) -> None:
    """Gives users' clicks priority on a busy processor; several trainings of a process do so once."""
    os.nice(max(0, to - os.nice(0)))
