"""Files hold what a training reads."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import label

from lib.regions.data_set import fit_to_memory, write_regions

SHAPE = (60, 56, 40)
AFFINE = np.diag([-1.2, -1.2, 2.0, 1.0])


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    return sum((a - c) ** 2 for a, c in zip(np.indices(SHAPE), centre, strict=True)) < radius**2


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    values = 400.0 + 12 * np.random.default_rng(2).standard_normal(SHAPE)
    values[ball((20, 28, 20), 8)] += 250
    values[ball((42, 28, 20), 6)] -= 150
    return save(tmp_path / "images" / "knee.nii.gz", np.rint(values).astype(np.int16))


def test_file_holds_whole_objects_and_their_parts(image: Path, tmp_path: Path) -> None:
    write_regions(tmp_path / "out", [image], "mr", [4])
    with np.load(tmp_path / "out" / "000004.npz") as arrays:
        assert arrays["image"].dtype == np.int16 and arrays["labels"].dtype in (np.uint8, np.uint16)
        np.testing.assert_allclose(arrays["affine"], AFFINE, atol=1e-4)
        labels, objects = arrays["labels"], arrays["objects"]
        assert arrays["weights"].sum() == pytest.approx(1)
        assert len(arrays["weights"]) == len(objects) >= 2
        assert set(np.unique(labels)) == {0, *objects.ravel().tolist()}
        for row in objects:
            assert label(np.isin(labels, row[row > 0]), np.ones((3, 3, 3)))[1] == 1


def test_equal_seeds_give_equal_files_and_an_existing_one_is_kept(image: Path, tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write_regions(tmp_path / folder, [image], "mr", [4])
    file = tmp_path / "first" / "000004.npz"
    with np.load(file) as one, np.load(tmp_path / "second" / file.name) as two:
        for key in one.files:
            np.testing.assert_array_equal(one[key], two[key])
    before = file.stat().st_mtime_ns
    write_regions(tmp_path / "first", [image], "mr", [4])
    assert file.stat().st_mtime_ns == before


def test_region_that_cuts_through_a_known_object_is_left_out(image: Path, tmp_path: Path) -> None:
    bright = ball((20, 28, 20), 8)
    write_regions(tmp_path / "free", [image], "mr", [4])
    save(tmp_path / "labels" / image.name, (bright | ball((20, 28, 20), 11)).astype(np.uint8))
    write_regions(tmp_path / "vetoed", [image], "mr", [4])
    shares = {}
    for folder in ("free", "vetoed"):
        with np.load(tmp_path / folder / "000004.npz") as arrays:
            shares[folder] = np.mean(arrays["labels"][bright] > 0)
    assert shares["free"] > 0.9
    assert shares["vetoed"] == 0


def test_large_volume_is_made_to_fit_and_stays_in_place() -> None:
    image = np.random.default_rng(0).integers(0, 100, (80, 80, 30)).astype(np.int16)
    image[:, :, 10:20] += 500
    affine = np.diag([0.7, 0.7, 2.0, 1.0])
    known = image > 400
    small, moved, truth = fit_to_memory(np.random.default_rng(1), image, affine, known, max_voxels=30_000)
    assert small.size <= 30_000 and small.shape == truth.shape
    assert small.dtype == image.dtype
    np.testing.assert_allclose(np.linalg.norm(moved[:3, :3], axis=0), [1.4, 1.4, 2.0])
    for index in np.argwhere(truth)[::500]:
        world = moved @ [*index, 1]
        assert 10 <= round(world[2] / 2.0) < 20
    np.testing.assert_array_equal(truth, small > 300)
