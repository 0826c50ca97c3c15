"""Label maps of any grid on that of an image, and which of their values is meant."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.geometry.axes import mm_to_voxel, voxel_to_mm
from lib.volumes.label_map import (
    LabelMapError,
    load_label_map,
    on_image_grid,
    only_value,
    require_value,
    value_of_name,
    values_of,
)
from lib.volumes.volume import Volume, make_volume
from tests.support.geometry import GEOMETRIES, affines, make_affine

SHAPE = (40, 34, 28)


def image(affine: np.ndarray) -> Volume:
    return make_volume(np.zeros(SHAPE, np.int16), affine, "image")


def labels(array: np.ndarray) -> Volume:
    return make_volume(array, np.eye(4), "labels")


def ball(affine: np.ndarray, shape: tuple[int, int, int], centre_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    ijk = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    distance = np.linalg.norm(voxel_to_mm(affine, ijk) - centre_mm, axis=1)
    return (distance <= radius_mm).reshape(shape)


@given(affines, st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_the_same_grid_is_left_as_it_is(affine: np.ndarray, seed: int) -> None:
    mask = np.random.default_rng(seed).random(SHAPE) > 0.7
    assert on_image_grid(mask, affine, image(affine)) is mask
    # What a file's header keeps of the affine: float32.
    assert on_image_grid(mask, affine.astype(np.float32).astype(float), image(affine)) is mask


@pytest.mark.parametrize("name", GEOMETRIES)
def test_another_grid_is_resampled_in_space(name: str) -> None:
    directions, spacing, degrees = GEOMETRIES[name]
    affine, other = make_affine(directions, spacing, degrees), make_affine("RAS", (0.5, 0.6, 0.7))
    centre = voxel_to_mm(affine, [[20, 17, 14]])[0]
    shape = (70, 64, 58)
    other[:3, 3] = centre - other[:3, :3] @ (np.array(shape) / 2)
    found = on_image_grid(ball(other, shape, centre, 9), other, image(affine))
    truth = ball(affine, SHAPE, centre, 9)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    np.testing.assert_allclose(np.argwhere(found).mean(0), np.argwhere(truth).mean(0), atol=0.3)


@given(affines)
@settings(max_examples=25, deadline=None)
def test_a_label_cropped_by_whole_voxels_is_put_back_exactly(affine: np.ndarray) -> None:
    """As DICOM SEG comes back: the slices it has, at the right place."""
    mask = np.random.default_rng(3).random(SHAPE) > 0.5
    mask[:3], mask[:, 30:], mask[:, :, :5] = False, False, False
    cropped_affine = affine.copy()
    cropped_affine[:3, 3] = voxel_to_mm(affine, [[3, 0, 5]])[0]
    np.testing.assert_array_equal(on_image_grid(mask[3:, :30, 5:], cropped_affine, image(affine)), mask)
    # Flipped storage as well.
    flipped = cropped_affine @ np.diag([-1.0, 1, 1, 1])
    flipped[:3, 3] = voxel_to_mm(cropped_affine, [[36, 0, 0]])[0]
    np.testing.assert_array_equal(on_image_grid(mask[3:, :30, 5:][::-1], flipped, image(affine)), mask)


def test_a_mask_of_another_image_is_refused() -> None:
    affine = make_affine("LPS", (0.8, 0.8, 1.0))
    far = affine.copy()
    far[:3, 3] += 500
    mask = ball(affine, SHAPE, voxel_to_mm(affine, [[20, 17, 14]])[0], 8)
    with pytest.raises(LabelMapError, match="0% of the label map's structure lies in the image; 90%"):
        on_image_grid(mask, far, image(affine))
    half = affine.copy()
    half[:3, 3] = voxel_to_mm(affine, [[20, 0, 0]])[0]
    with pytest.raises(LabelMapError, match="belongs to another image"):
        on_image_grid(mask, half, image(affine))
    # Other organs may reach out of the image, but not lie elsewhere altogether.
    kept = on_image_grid(mask, half, image(affine), least_inside=0.0)
    assert 0 < kept.sum() < mask.sum()
    with pytest.raises(LabelMapError):
        on_image_grid(mask, far, image(affine), least_inside=0.0)


def test_an_empty_mask_of_another_grid_stays_empty() -> None:
    assert not on_image_grid(np.zeros((5, 5, 5), bool), np.eye(4), image(make_affine("LPS", (1, 1, 1)))).any()


def test_values() -> None:
    array = np.zeros((4, 4, 4), np.int16)
    array[0, 0], array[1, 1] = 3, 7
    assert values_of(labels(array)) == (3, 7) == values_of(labels(array.astype(np.float32)))
    require_value(labels(array), 7, "start_value")
    with pytest.raises(LabelMapError, match="start_value is 2, but the label map holds the values 3, 7"):
        require_value(labels(array), 2, "start_value")
    with pytest.raises(LabelMapError, match="the values 3, 7; say with 'start_value'"):
        only_value(labels(array), "start_value")
    assert only_value(labels((array == 3) * 5), "start_value") == 5
    with pytest.raises(LabelMapError, match="empty"):
        only_value(labels(array * 0), "start_value")


def test_names_are_in_the_order_of_the_values() -> None:
    array = np.zeros((4, 4, 4), np.uint8)
    array[0, 0], array[1, 1] = 3, 7
    assert value_of_name(labels(array), ["liver", "Lesion "], "lesion") == 7
    assert value_of_name(labels(array), ["lesion", "liver"], "lesion") == 3
    # Whatever cannot be known is not guessed.
    assert value_of_name(labels(array), ["liver", "lesion", "spleen"], "lesion") is None
    assert value_of_name(labels(array), ["lesion", "lesion"], "lesion") is None
    assert value_of_name(labels(array), ["liver", "spleen"], "lesion") is None


@pytest.mark.parametrize("bad", [-1, 0.5, np.nan, np.inf, 70000])
def test_an_image_is_no_label_map(tmp_path: Path, bad: float) -> None:
    array = np.zeros((4, 4, 4), np.float32)
    array[1, 1, 1] = bad
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(LabelMapError, match="whole numbers from 0 to 65535"):
        load_label_map(tmp_path / "a.nii", None)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LabelMapError, match="does not exist"):
        load_label_map(tmp_path / "a.nii", None)
    (tmp_path / "a.nii").write_bytes(b"Dear Sir")
    with pytest.raises(LabelMapError, match="cannot be used"):
        load_label_map(tmp_path / "a.nii", None)
    nib.save(nib.Nifti1Image(np.zeros((4, 4), np.uint8), np.eye(4)), tmp_path / "flat.nii")
    with pytest.raises(LabelMapError, match="one volume of 3 axes"):
        load_label_map(tmp_path / "flat.nii", None)


def test_a_place_in_mm_keeps_its_label() -> None:
    """By hand: one voxel of 2 mm covers the eight voxels of 1 mm in it, and no other."""
    coarse = np.zeros((6, 6, 6), bool)
    coarse[2, 3, 4] = True
    coarse_affine, fine_affine = np.diag([2.0, 2, 2, 1]), np.eye(4)
    fine_affine[:3, 3] = -0.5
    fine = make_volume(np.zeros((12, 12, 12), np.int16), fine_affine, "image")
    found = np.argwhere(on_image_grid(coarse, coarse_affine, fine))
    centres = mm_to_voxel(coarse_affine, voxel_to_mm(fine_affine, found))
    assert len(found) == 8 and (np.rint(centres) == [2, 3, 4]).all()
