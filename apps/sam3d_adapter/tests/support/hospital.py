"""A small hospital: an app of the test size, a folder of studies, and labels that were submitted."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monailabel.datastore.local import LocalDatastore

from lib.audit.log import AuditLog
from lib.learning import candidate
from lib.learning.rehearsal import Rehearsal
from lib.presets import Preset, load_preset
from lib.registry.registry import Registry
from lib.trainers import train_task
from lib.trainers.train_task import FineTuneTask
from tests.support.small_app import copy_small_app

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
SIDE = 28


class Hospital:
    """All of it in one folder.

    Args:
        folder: made here if it is not there; one that is there is taken as it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app, self.studies = folder / "app", folder / "studies"
        if not self.studies.exists():
            copy_small_app(self.app)
            self.studies.mkdir()
        self.preset: Preset = load_preset(self.app / "configs/test.yaml")
        self.registry = Registry(folder / "learning")
        self.versions = self.registry.of("test", "test")
        self.audit_log = AuditLog(folder / "audit", 2**20)
        self.store = LocalDatastore(str(self.studies), auto_reload=False)
        self.rehearsal: Callable[[Preset], Rehearsal] | None = None

    def submit(self, count: int, *, first: int = 0, structure: str = "lesion") -> None:
        """Labels of so many patients, each a bright block in noise, through the data store's own way."""
        for number in range(first, first + count):
            rng = np.random.default_rng(number)
            labels = np.zeros((SIDE, SIDE, SIDE), np.uint8)
            low = rng.integers(5, 11, 3)
            labels[tuple(slice(a, a + 10) for a in low)] = 1
            image = (60 * labels + rng.normal(0, 10, labels.shape)).astype(np.int16)
            name = f"patient_{number:02d}"
            nib.save(nib.Nifti1Image(image, AFFINE), self.studies / f"{name}.nii.gz")
            label = self.folder / "label.nii.gz"
            nib.save(nib.Nifti1Image(labels, AFFINE), label)
            self.store.refresh()
            self.store.save_label(name, str(label), "final", {"label_info": [{"name": structure, "idx": 1}]})
        self.store.refresh()

    def spoil(self, names: Sequence[str]) -> None:
        """Replace labels by one that holds a corner of the image, where there is nothing."""
        labels = np.zeros((SIDE, SIDE, SIDE), np.uint8)
        labels[:4, :4, :4] = 1
        label = self.folder / "label.nii.gz"
        nib.save(nib.Nifti1Image(labels, AFFINE), label)
        for name in names:
            self.store.save_label(name, str(label), "final", {"label_info": [{"name": "lesion", "idx": 1}]})
        self.store.refresh()

    def task(self, **more: object) -> FineTuneTask:
        """The train task; without phantoms for rehearsal, which take long to make, unless ``rehearsal`` is set."""
        return FineTuneTask(self.preset, self.app, self.registry, self.audit_log, self.rehearsal, **more)  # type: ignore[arg-type]

    def train(self, **request: object) -> dict:
        """A round, as MONAI Label's process asks for it."""
        return self.task()({"model": "test", "max_epochs": 1, "device": "cpu", **request}, self.store)


@pytest.fixture
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few steps, and no lower priority for all the tests that follow."""
    monkeypatch.setattr(candidate, "STEPS_PER_EPOCH", 2)
    monkeypatch.setattr(candidate, "VALIDATION_BATCHES", 1)
    monkeypatch.setattr(candidate, "WORKERS", 0)
    monkeypatch.setattr(train_task, "lower_priority", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})  # threads of one small model only wait for each other
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
