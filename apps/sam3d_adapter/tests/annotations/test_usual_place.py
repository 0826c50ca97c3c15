"""The usual place of a structure is one of the body, however an image is stored."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.annotations.patients import PatientBook
from lib.annotations.submitted import SavedLabel, SubmittedCase, read_submitted
from lib.annotations.usual_place import LEAST_LABELS, usual_place, voxel_at
from tests.support.geometry import make_affine

RAS = (make_affine("RAS", (1.0, 1.0, 2.0)), (30, 24, 20), (8, 17, 5))
LPI = (make_affine("LPI", (1.0, 1.0, 2.0)), (30, 24, 20), (21, 6, 14))
"""Affine, shape and the voxel that is the same place of the body."""


def case(folder: Path, number: int, affine: np.ndarray, shape: tuple[int, int, int], at: tuple[int, ...]):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(index - 2, index + 3) for index in at)] = 1
    for name, array in (("image", np.zeros(shape, np.int16)), ("label", labels)):
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}_{number}.nii.gz")
    paths = (folder / f"{name}_{number}.nii.gz" for name in ("image", "label"))
    return SavedLabel(str(number), *paths, {"label_info": [{"name": "Liver 1", "idx": 1}]})


@pytest.fixture
def cases(tmp_path: Path) -> tuple[SubmittedCase, ...]:
    saved = [case(tmp_path, n, *(RAS, LPI)[n % 2]) for n in range(LEAST_LABELS)]
    return read_submitted(saved, None, PatientBook().patient_of).cases


def test_it_is_found_in_other_orientations(cases: tuple[SubmittedCase, ...]) -> None:
    place = usual_place(cases, "liver")
    assert place is not None
    for affine, shape, at in (RAS, LPI):
        assert voxel_at(place, shape, affine) == at
        # A larger field of view around the same middle.
        larger = tuple(2 * length for length in shape)
        assert np.abs(np.array(voxel_at(place, larger, affine)) - np.array(at) - np.array(shape) / 2).max() <= 0.5
    assert voxel_at(np.array([900.0, -900.0, 900.0]), RAS[1], RAS[0]) == (29, 0, 19)


def test_it_is_found_in_a_tilted_image(cases: tuple[SubmittedCase, ...]) -> None:
    place = usual_place(cases, "liver")
    assert place is not None
    affine, shape, at = RAS
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    angle = np.radians(25)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    tilted = affine.copy()
    tilted[:3, :3] = tilt @ affine[:3, :3]
    tilted[:3, 3] = middle - tilted[:3, :3] @ ((np.array(shape) - 1) / 2)
    seen = tilted[:3, :3] @ voxel_at(place, shape, tilted) + tilted[:3, 3]
    assert np.abs(seen - (affine[:3, :3] @ at + affine[:3, 3])).max() <= 1.5


def test_few_labels_tell_nothing(cases: tuple[SubmittedCase, ...]) -> None:
    assert usual_place(cases, "spleen") is None and usual_place(cases[: LEAST_LABELS - 1], "liver") is None
