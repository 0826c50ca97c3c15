"""Small volumes that a few steps can be trained on."""

from pathlib import Path

import nibabel as nib
import numpy as np

from lib.pretraining.recipe import LESIONS

TRAINED, KEPT = ("STS_001", "STS_002"), ("STS_011", "STS_013")
"""Patients of whom the second two are held out by the list in benchmarks/."""


def write_patients(folder: Path) -> None:
    """What the recipe of the small weights needs: `TRAINED` and `KEPT` in each modality."""
    for part in LESIONS.patients:
        write_blocks(folder / part.folder, (*TRAINED, *KEPT))


def write_blocks(folder: Path, names: tuple[str, ...]) -> None:
    """``images/`` and ``labels/`` with a volume of 40 mm for each name: noise, and one bright block somewhere in it."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name in names:
        labels = np.zeros((40, 40, 40), np.uint8)
        labels[tuple(slice(a, a + 14) for a in rng.integers(8, 16, 3))] = 1
        image = (60 * labels + rng.normal(0, 10, labels.shape)).astype(np.int16)
        for kind, values in (("images", image), ("labels", labels)):
            nib.save(nib.Nifti1Image(values, np.eye(4)), folder / kind / f"{name}.nii.gz")
