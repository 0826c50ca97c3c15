"""Labels on another grid than their image land where they are in space."""

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lib.geometry.axes import transform_points
from lib.volumes.label_grid import image_grid, on_grid
from lib.volumes.read import read_array
from lib.volumes.volume import ImageError

SHAPE = (23, 19, 15)


def random_affine(rng, spacing=(0.7, 2.5)):
    """Any rotation, order and direction of the axes, the centre of `SHAPE` near the origin."""
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], size=3)[:, None]
    turned = Rotation.from_euler("xyz", rng.uniform(-30, 30, 3), degrees=True).as_matrix() @ axes
    affine = np.eye(4)
    affine[:3, :3] = turned * rng.uniform(*spacing, 3)
    affine[:3, 3] = rng.uniform(-2, 2, 3) - affine[:3, :3] @ (np.array(SHAPE) / 2)
    return affine


@pytest.mark.parametrize("seed", range(20))
def test_each_voxel_gets_the_nearest_one_in_space(seed):
    rng = np.random.default_rng(seed)
    affine, onto = random_affine(rng), random_affine(rng)
    labels = rng.integers(1, 200, SHAPE).astype(np.uint8)
    shape = tuple(int(length) for length in rng.integers(8, 24, 3))
    placed = on_grid(labels, affine, shape, onto)
    assert placed.shape == shape and placed.dtype == np.uint8
    for ijk in np.argwhere(np.ones(shape))[:: int(rng.integers(5, 11))]:
        exact = transform_points(np.linalg.inv(affine) @ onto, ijk)[0]
        nearest = np.floor(exact + 0.5).astype(int)
        if np.abs(exact + 0.5 - np.rint(exact + 0.5)).min() < 1e-6:
            continue  # a tie
        inside = bool(((nearest >= 0) & (nearest < SHAPE)).all())
        assert placed[tuple(ijk)] == (labels[tuple(nearest)] if inside else 0)


def test_flipped_copy_comes_back_whole():
    rng = np.random.default_rng(3)
    affine = random_affine(rng)
    labels = rng.integers(0, 4, SHAPE).astype(np.uint8)
    for axis in range(3):
        flip = np.eye(4)
        flip[axis, axis], flip[axis, 3] = -1, SHAPE[axis] - 1
        np.testing.assert_array_equal(on_grid(np.flip(labels, axis), affine @ flip, SHAPE, affine), labels)


def test_cropped_copy_comes_back_whole():
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:9, 4:8, 6:11] = 2
    affine = random_affine(np.random.default_rng(5))
    shift = np.eye(4)
    shift[:3, 3] = (5, 4, 6)
    np.testing.assert_array_equal(on_grid(labels[5:9, 4:8, 6:11], affine @ shift, SHAPE, affine), labels)


def test_rounded_affine_is_the_same_grid():
    labels = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    affine = random_affine(np.random.default_rng(8))
    assert on_grid(labels, affine.astype(np.float32).astype(np.float64), SHAPE, affine) is labels


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_grid_of_a_file_is_that_of_its_voxels(tmp_path, suffix):
    affine = random_affine(np.random.default_rng(2))
    nib.save(nib.Nifti1Image(np.zeros((*SHAPE, 1), np.int16), affine), tmp_path / f"a{suffix}")
    shape, found = image_grid(tmp_path / f"a{suffix}")
    array, expected = read_array(tmp_path / f"a{suffix}")
    assert shape == SHAPE == array.shape[:3]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("name", "content"), [("a.nii", b"x" * 400), ("a.nii.gz", b"no gzip"), ("a.nii", b"")])
def test_what_is_no_image(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ImageError, OSError)):
        image_grid(tmp_path / name)
