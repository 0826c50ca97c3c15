"""How good a version is on the server's own validation cases: the same dialogues as those of ``make evaluate``."""

import contextlib
import dataclasses
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib

from lib.configs.evaluate import Evaluation, evaluate
from lib.configs.evaluated_task import TaskChoice, with_weights
from lib.evaluation.cases import Source
from lib.evaluation.ledger import read_records
from lib.evaluation.record import Record
from lib.learning.submitted import SubmittedCase
from lib.presets import Preset

MODES, SEEDS = ("centre",), (42,)
MAX_PATIENTS = 32
"""Of so many the interval is narrow enough; more would keep a hospital's server busy for longer than training does."""


class MeasureVersion:
    """Holds the dialogues of one mode and seed with a version; what is finished of a stopped run is kept.

    Args:
        preset: whose task.
        app_dir: the app folder.
        device: ``cpu`` or ``cuda:N``.
        precision: one of `lib.inference.precision.PRECISIONS`.
        threads: of PyTorch.
    """

    def __init__(self, preset: Preset, app_dir: Path, device: str, precision: str = "auto", threads: int = 1) -> None:
        # Baselines say nothing about which of two versions is better.
        self._preset = dataclasses.replace(preset, blind=None)
        self._app_dir, self._device, self._precision, self._threads = app_dir, device, precision, threads

    def __call__(self, weights: Path, cases: Sequence[SubmittedCase], out: Path) -> list[Record]:
        """Records, and a folder as ``make evaluate`` writes it.

        Args:
            weights: of the version.
            cases: of validation patients; the first ``MAX_PATIENTS`` patients in the order of their images' checksums.
            out: the folder; what is there of the same run is gone on with.
        """
        preset = with_weights(self._preset, weights)
        with tempfile.TemporaryDirectory(prefix="sam3d-truth-") as folder, _hosts_log_off():
            sources = [source for case in _some(cases) for source in _sources(case, Path(folder), preset.name)]
            choice = TaskChoice(self._app_dir, preset, self._device, self._precision, self._threads)
            evaluate(Evaluation(choice, sources, out, MODES, SEEDS, jobs=1, timeout_s=90.0, split="validation"))
        return read_records(out)


@contextlib.contextmanager
def _hosts_log_off() -> Iterator[None]:
    """MONAI Label tells twenty lines of every click, which here are hundreds."""
    logger = logging.getLogger("monailabel")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _some(cases: Sequence[SubmittedCase]) -> list[SubmittedCase]:
    ordered = sorted(cases, key=lambda case: case.image_sha256)
    patients = list(dict.fromkeys(case.patient.name for case in ordered))[:MAX_PATIENTS]
    return [case for case in ordered if case.patient.name in patients]


def _sources(case: SubmittedCase, folder: Path, dataset: str) -> list[Source]:
    """A source for each object, its truth written on the image's grid."""
    labels = case.read_labels()
    found = []
    for value, _ in enumerate(case.names, start=1):
        path = folder / f"{case.image_sha256[:16]}_{value}.nii"
        nib.save(nib.Nifti1Image((labels == value).astype("uint8"), case.affine), path)
        name = case.image_id if len(case.names) == 1 else f"{case.image_id}_{value}"
        found.append(Source(name, case.image, path, case.patient.name, dataset, split="validation"))
    return found
