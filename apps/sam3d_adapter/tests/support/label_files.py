"""Small images and labels as files."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

SHAPE = (6, 5, 4)


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine), path)
    return path


def labels(*boxes: tuple[slice, int]) -> np.ndarray:
    values = np.zeros(SHAPE, np.uint8)
    for where, value in boxes:
        values[where] = value
    return values


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("b", "a", "without_label"):
        save(tmp_path / "images" / f"{name}.nii.gz", np.ones(SHAPE, np.int16))
    save(tmp_path / "labels/a.nii", labels((slice(0, 2), 1), (slice(4, 5), 7)))
    save(tmp_path / "labels/b.nii.gz", labels())
    (tmp_path / "images/notes.txt").write_text("no volume")
    return tmp_path / "images", tmp_path / "labels"
