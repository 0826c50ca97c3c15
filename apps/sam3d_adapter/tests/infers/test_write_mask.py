"""A mask is written whole, or not at all."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from lib.infers.write_mask import WriteError, write_mask
from tests.support.geometry import make_affine
from tests.support.small_disk import SmallDisk, small_disk

# ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")

# Noise, which no compression makes small.
MASK = np.random.default_rng(0).integers(0, 2, (40, 32, 24), np.uint8)
AFFINE = make_affine("LPS", (0.7, 0.9, 2.5), (10, -5, 0))
WAYS = [(".nrrd", False), (".nrrd", True), (".nii", False), (".nii.gz", False)]


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("extension", "compress"), WAYS)
@pytest.mark.parametrize(
    "mask", [MASK, np.zeros_like(MASK), np.ones((3, 2, 2), np.uint8)], ids=["noise", "empty", "tiny"]
)
def test_written_as_it_is(tmp: Path, mask: np.ndarray, extension: str, compress: bool) -> None:
    path = write_mask(mask, AFFINE, extension, compress=compress)
    assert path.parent == tmp and path.name.endswith(extension)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).transpose(), mask)
    if extension != ".nrrd":
        np.testing.assert_allclose(nib.load(path).affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(image.GetOrigin(), AFFINE[:3, 3] * [-1, -1, 1], atol=1e-4)


@pytest.mark.parametrize(("extension", "compress"), WAYS)
@pytest.mark.parametrize("is_empty", [False, True])
def test_the_box_alone_lies_where_the_mask_does(tmp: Path, extension: str, compress: bool, is_empty: bool) -> None:
    box = (slice(5, 18), slice(9, 30), slice(2, 3))
    mask = np.zeros(MASK.shape, np.uint8, order="F")
    mask[box] = not is_empty
    image = sitk.ReadImage(str(write_mask(mask, AFFINE, extension, compress=compress, crop=True)))
    assert image.GetSize() == ((1, 1, 1) if is_empty else (13, 21, 1))
    whole = sitk.ReadImage(str(write_mask(mask, AFFINE, extension, compress=compress)))
    placed = sitk.Resample(image, whole, sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(placed).transpose(), mask)


@pytest.mark.parametrize(("extension", "compress"), WAYS)
@pytest.mark.parametrize("order", "FC")
def test_the_bytes_are_those_of_the_host(tmp: Path, extension: str, compress: bool, order: Any) -> None:
    from monailabel.transform.writer import write_itk

    theirs = tmp / f"theirs{extension}"
    write_itk(MASK, str(theirs), AFFINE, np.uint8, compress)
    ours = write_mask(np.array(MASK, order=order), AFFINE, extension, compress=compress)
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    try:
        with small_disk(tmp_path / "disk", 2**17) as mounted:
            monkeypatch.setattr(tempfile, "tempdir", str(mounted.folder))
            yield mounted
    except (OSError, FileNotFoundError) as error:
        pytest.skip(f"needs the right to mount a small disk: {error}")


@pytest.mark.parametrize(("extension", "compress"), WAYS)
@pytest.mark.parametrize("left", [0, 4096])
def test_full_disk(disk: SmallDisk, extension: str, compress: bool, left: int) -> None:
    with disk.full(left=left), pytest.raises(WriteError, match="full or read-only"):
        write_mask(MASK, AFFINE, extension, compress=compress)
    assert list(disk.folder.iterdir()) == []
    assert write_mask(MASK, AFFINE, extension, compress=compress).stat().st_size > 2000


@pytest.mark.parametrize(("extension", "compress"), WAYS[1:])
def test_the_writer_of_the_host_says_nothing(disk: SmallDisk, extension: str, compress: bool) -> None:
    """Why files are looked at once more: most of ITK's writers do not raise on a full disk."""
    from monailabel.transform.writer import write_itk

    path = disk.folder / f"a{extension}"
    with disk.full(left=4096):
        write_itk(MASK, str(path), AFFINE, np.uint8, compress)
        assert path.stat().st_size <= 4096


def test_read_only_disk(disk: SmallDisk) -> None:
    with disk.read_only(), pytest.raises(WriteError, match="read-only"):
        write_mask(MASK, AFFINE, ".nrrd", compress=False)
