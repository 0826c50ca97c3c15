"""Learning to predict the Dice of a version's answers, from labelled patients whom it never learned from.

They are clicked on as the gate clicks on validation patients, and once more with a first click anywhere. A version that
was trained here has seen the patients of its training, and those of the versions that it came from. All others count:
validation patients, and whoever was labelled since. The shipped weights have seen none.
"""

import logging
import os
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from lib.annotations.submitted import SubmittedCase
from lib.evaluation.measure import MeasureVersion
from lib.evaluation.record import Record
from lib.files.atomic_write import write_atomically
from lib.files.checksums import file_sha256
from lib.files.folders import private_folder
from lib.files.lock import file_lock
from lib.learning.validation_snapshot import (
    MAX_PATIENTS,
    remove_validation_snapshot,
    save_validation_snapshot,
    snapshot_sources,
)
from lib.presets import Preset
from lib.registry.version import SHIPPED
from lib.registry.versions import Versions
from lib.serving.predicted_dice import (
    FOLDER,
    MIN_PATIENTS,
    Calibration,
    Calibrations,
    calibration_file,
    calibration_key,
    fit_calibration,
    to_json,
)

logger = logging.getLogger(__name__)

MODES = ("centre", "random")
"""Of the simulated user: nobody knows where a person clicks first."""


class NoCalibration(ValueError):
    """There are too few patients, or another process is at it; the text says which."""


@dataclass(frozen=True)
class Calibrating:
    """Measures the version that is served, and keeps what its answers are worth.

    Attributes:
        preset: of the task.
        app_dir: folder to which the preset's file names are relative.
        versions: of the preset.
        cases: all submitted labels, of patients of either side of the split.
        pseudonym: a name -> its keyed hash, which stands for it in all files that are kept.
        device: ``cpu`` or ``cuda:N``.
        precision: one of `lib.models.precision.PRECISIONS`.
    """

    preset: Preset
    app_dir: Path
    versions: Versions
    cases: Sequence[SubmittedCase]
    pseudonym: Callable[[str], str]
    device: str
    precision: str = "auto"

    def __call__(self) -> Calibration:
        """The calibration of the served version: a new one, unless the one there is has as many patients.

        What a stopped process has measured is gone on with.

        Raises:
            NoCalibration: there is none.
            RegistryError: which version is served cannot be told.
            CheckpointError: its weights cannot be loaded.
            OSError: the disk is full.
        """
        served = self.versions.state().served
        unseen = unseen_cases(self.cases, self._learned_from(served))
        patients = min(len({case.patient.name for case in unseen}), MAX_PATIENTS)
        if patients < MIN_PATIENTS:
            raise NoCalibration(
                f"Dice is not predicted yet: {patients} labelled patients are not among those that version {served} "
                f"learned from, and {MIN_PATIENTS} are needed."
            )
        weights = self._weights(served)
        sha256 = file_sha256(weights)
        known = Calibrations(self.versions.folder, self.preset).of(sha256)
        if known is not None and known.patients >= patients:
            return known
        folder = self.versions.folder / FOLDER
        private_folder(folder)
        try:
            with file_lock(folder / "lock", 0):
                records = self._measured(weights, unseen, folder)
        except Timeout:
            raise NoCalibration("Another process learns just now to predict Dice for this preset.") from None
        expected, dice = per_patient(records)
        found = fit_calibration(calibration_key(self.preset, sha256), expected, dice)
        if found is None:
            raise NoCalibration(f"Dice is not predicted: of {patients} patients only {len(dice)} could be measured.")
        write_atomically(calibration_file(self.versions.folder, sha256), to_json(found).encode())
        logger.info("Preset %s: Dice is predicted from %d patients.", self.preset.name, found.patients)
        return found

    def _learned_from(self, version_id: str) -> set[str]:
        """sha256 of all images and labels that a version learned from, or that it inherits from others."""
        known = {**self.versions.pruned(), **{one.id: one for one in self.versions.versions()}}
        found: set[str] = set()
        version = None if version_id == SHIPPED else self.versions.get(version_id)
        while version is not None:
            found.update(sha256 for pair in version.data for sha256 in pair.split(":"))
            version = known.get(version.parent or SHIPPED)
        return found

    def _weights(self, version_id: str) -> Path:
        own = self.app_dir / self.preset.model.files[-1]
        return own if version_id == SHIPPED else self.versions.weights(version_id)

    def _measured(self, weights: Path, cases: Sequence[SubmittedCase], folder: Path) -> list[Record]:
        """Records of the cases; what was measured of the same version before is not measured again."""
        remove_validation_snapshot(folder)
        save_validation_snapshot(folder, cases, self.pseudonym)
        sources = snapshot_sources(folder, cases, self.pseudonym, self.preset.name)
        threads = len(os.sched_getaffinity(0))
        measure = MeasureVersion(self.preset, self.app_dir, self.device, self.precision, threads, MODES)
        try:
            return measure(weights, sources, folder / "records")
        finally:
            remove_validation_snapshot(folder)


def unseen_cases(cases: Iterable[SubmittedCase], learned_from: Collection[str]) -> list[SubmittedCase]:
    """The cases of patients of whom nothing was learned.

    Args:
        cases: submitted labels.
        learned_from: sha256 of images and labels.
    """
    cases = list(cases)
    seen = {case.patient.name for case in cases if {case.image_sha256, case.label_sha256} & set(learned_from)}
    return [case for case in cases if case.patient.name not in seen]


def per_patient(
    records: Iterable[Record], modes: Sequence[str] = MODES
) -> tuple[list[list[list[float]]], list[list[list[float]]]]:
    """Expected and true Dice by patient, mode and clicks: of one object each, for those of a patient are alike.

    Patients with a failed request are left out, and so are all where the network gives no probabilities.

    Args:
        records: of an evaluation.
        modes: those that are wanted.
    """
    usable: dict[str, dict[str, Record]] = {}
    for record in records:
        if None not in record["expected_dice"] and not any(record["failed"]):
            usable.setdefault(record["case"], {})[record["mode"]] = record
    chosen: dict[str, dict[str, Record]] = {}
    for case in sorted(usable, key=lambda case: zlib.crc32(case.encode())):
        if all(mode in usable[case] for mode in modes):
            chosen.setdefault(usable[case][modes[0]]["patient"], usable[case])
    expected, dice = (
        [[found[mode][key] for mode in modes] for found in chosen.values()] for key in ("expected_dice", "dice")
    )
    return expected, dice
