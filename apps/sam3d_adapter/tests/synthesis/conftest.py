"""A small trunk as a label map on disk."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

NAMES = {
    1: "liver",
    2: "kidney_left",
    3: "kidney_right",
    4: "aorta",
    5: "vertebrae_L1",
    6: "vertebrae_L2",
    7: "lung_lower_lobe_left",
    8: "lung_upper_lobe_left",
    9: "urinary_bladder",
}
SPACING_MM = 3.0


def small_trunk() -> np.ndarray:
    """(72, 48, 60) labels of ellipsoids and cylinders."""
    x, y, z = (axis * SPACING_MM for axis in np.ogrid[:72, :48, :60])
    labels = np.zeros((72, 48, 60), np.uint8)

    def paint(value: int, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> None:
        place = sum(((a - c) / r) ** 2 for a, c, r in zip((x, y, z), centre, radii, strict=True))
        labels[place < 1] = value

    paint(1, (150, 80, 100), (45, 45, 40))
    paint(2, (70, 40, 70), (18, 18, 30))
    paint(3, (150, 30, 55), (18, 18, 30))
    paint(8, (65, 80, 140), (35, 45, 40))
    labels[(labels == 8) & np.broadcast_to(z < 135, labels.shape)] = 7
    paint(9, (108, 100, 20), (25, 22, 18))
    spine = np.broadcast_to((x - 108) ** 2 + (y - 30) ** 2 < 16**2, labels.shape)
    labels[spine & (z < 80)] = 6
    labels[spine & (z > 92)] = 5
    labels[np.broadcast_to((x - 108) ** 2 + (y - 58) ** 2 < 9**2, labels.shape)] = 4
    return labels


@pytest.fixture(scope="session")
def label_maps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """One label map, stored with axes to the left, back and top."""
    data = tmp_path_factory.mktemp("data")
    folder = data / "labelmaps_small"
    (folder / "labels").mkdir(parents=True)
    affine = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    nib.save(nib.Nifti1Image(small_trunk()[::-1, ::-1], affine), folder / "labels" / "one.nii.gz")
    case = {"label": "labels/one.nii.gz", "labels": {str(value): name for value, name in NAMES.items()}}
    (folder / "manifest.json").write_text(json.dumps({"cases": [case]}), encoding="utf-8")
    return (folder / "labels/one.nii.gz",)
