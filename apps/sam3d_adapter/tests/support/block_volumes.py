"""Small volumes that a few steps can be trained on."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from lib.pretraining.recipe import STRUCTURES
from lib.pretraining.sources import Labelled

TRAINED, KEPT = ("STS_001", "STS_002"), ("STS_011", "STS_013")
"""Patients of whom the second two are held out by the list in benchmarks/."""


def write_data(folder: Path) -> None:
    """What the recipe of the small weights needs, with volumes of 40 mm: `TRAINED` and `KEPT` where both are wanted."""
    for source in STRUCTURES.labelled:
        write_blocks(folder / source.name, names_in(source))
    for path in {path for source in STRUCTURES.generated for path in source.inputs}:
        if path.startswith("labelmaps"):
            write_label_map(folder / path)
        elif not (folder / path).exists():
            write_blocks((folder / path).parent, ("one",))


def names_in(source: Labelled) -> tuple[str, ...]:
    """Of the cases that are written for a source."""
    return (*TRAINED * (source.share > 0), *KEPT)


def write_label_map(folder: Path) -> None:
    """A label map of a liver with a kidney beside it, and the manifest that names them."""
    folder.mkdir(parents=True)
    x, y, z = np.ogrid[:40, :40, :40]
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[(x - 14) ** 2 + (y - 20) ** 2 + (z - 20) ** 2 < 10**2] = 1
    labels[(x - 30) ** 2 + (y - 18) ** 2 + (z - 20) ** 2 < 6**2] = 2
    nib.save(nib.Nifti1Image(labels, np.diag([3.0, 3.0, 3.0, 1.0])), folder / "one.nii.gz")
    case = {"label": "labels/one.nii.gz", "labels": {"1": "liver", "2": "kidney_left"}}
    (folder.parent / "manifest.json").write_text(json.dumps({"cases": [case]}), encoding="utf-8")


def write_blocks(folder: Path, names: tuple[str, ...]) -> None:
    """``images/`` and ``labels/`` with a volume of 40 mm for each name: noise, and one bright block somewhere in it."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name in names:
        labels = np.zeros((40, 40, 40), np.uint8)
        labels[tuple(slice(a, a + 14) for a in rng.integers(8, 16, 3))] = 1
        image = (100 + 60 * labels.astype(int) + rng.normal(0, 10, labels.shape)).astype(np.int16)
        for kind, values in (("images", image), ("labels", labels)):
            nib.save(nib.Nifti1Image(values, np.eye(4)), folder / kind / f"{name}.nii.gz")
