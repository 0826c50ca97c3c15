"""A table of NIfTI headers: read as ITK and nibabel agree, where ITK puts them, or refused in a sentence."""

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from lib.volumes.label_file import read_label_file
from lib.volumes.label_grid import image_grid, label_affine
from lib.volumes.nifti import is_on_same_voxels
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError
from tests.support.geometry import make_affine
from tests.support.hostile_images import patched

# ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")

SHAPE = (9, 8, 7)
ZOOMS = (0.8, 0.9, 2.5)
SCANNER = make_affine("LPS", ZOOMS, (4, -3, 10), (60, -40, 90))
ATLAS = make_affine("RAS", ZOOMS, (0, 0, 0), (50, -47, 101))
NAN = float("nan")
# By name: codes of qform and sform.
POSITIONS = {"neither": (0, 0), "qform": (1, 0), "sform": (0, 1), "both": (1, 1), "two": (1, 2)}
FLAT = {"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4, "sform_code": 1}
# By name: fields, and for which positions they are refused rather than read where ITK puts them.
FIELDS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "as it should be": ({}, set()),
    "qfac 0": ({"pixdim": [0]}, set()),
    "qfac -1": ({"pixdim": [-1]}, set()),
    "qfac 2": ({"pixdim": [2]}, set()),
    "qfac NaN": ({"pixdim": [NAN]}, set()),
    # ITK takes the sign, nibabel takes 1.
    "qfac -0.5": ({"pixdim": [-0.5]}, {"qform", "two"}),
    **{f"qform code {code}": ({"qform_code": code}, set()) for code in (-1, 0, 1, 2, 3, 4, 5)},
    **{
        f"sform code {code}": ({"sform_code": code}, {"neither"} if code > 0 else set())
        for code in (-1, 0, 1, 2, 3, 4, 5)
    },
    "sform of zeros": (FLAT, {"neither", "sform"}),
    "sform of zeros but for its place": (FLAT | {"srow_x": [0, 0, 0, 5]}, {"neither", "sform"}),
    "sform of NaN": ({"srow_x": [NAN] * 4, "sform_code": 1}, set(POSITIONS)),
    "voxels of -0.8 mm": ({"pixdim": [1, -0.8]}, set()),
    "voxels of -2.5 mm": ({"pixdim": [1, 0.8, 0.9, -2.5]}, set()),
    # Both take 1 mm for it, which the header does not say.
    "voxels of 0 mm": ({"pixdim": [1, 0]}, set(POSITIONS)),
    "voxels of NaN mm": ({"pixdim": [1, NAN]}, set(POSITIONS)),
    "quaternion a hair beyond 1": ({"quatern_b": 0.6, "quatern_c": 0.8, "quatern_d": 0.001}, set()),
    "quaternion of 3 decimals": ({"quatern_b": 0.577, "quatern_c": 0.577, "quatern_d": 0.579}, set()),
    "quaternion far beyond 1": ({"quatern_b": 0.6, "quatern_c": 0.8, "quatern_d": 0.5}, {"qform", "two"}),
    "quaternion of NaN": ({"quatern_b": NAN}, {"qform", "two"}),
    "place of NaN": ({"qoffset_x": NAN}, {"qform", "two"}),
}


def content(positions: str = "both", dtype: Any = np.int16, **fields: Any) -> bytes:
    qform_code, sform_code = POSITIONS[positions]
    image = nib.Nifti1Image(np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype), None, dtype=dtype)
    image.header.set_zooms(ZOOMS)
    if qform_code:
        image.set_qform(SCANNER, qform_code)
    if sform_code:
        image.set_sform(ATLAS if positions == "two" else SCANNER, sform_code)
    image.header["qform_code"], image.header["sform_code"] = qform_code, sform_code
    image.header.set_xyzt_units("mm")
    return patched(image.to_bytes(), **fields)


def write(path: Path, file: bytes) -> Path:
    path.write_bytes(gzip.compress(file, mtime=0) if path.name.endswith(".gz") else file)
    return path


def of_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values and affine to RAS mm, of the whole file."""
    image = sitk.ReadImage(str(path), imageIO="NiftiImageIO")
    axes, affine = image.GetDimension(), np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (axes, axes))[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return sitk.GetArrayFromImage(image).transpose(), np.diag([-1.0, -1, 1, 1]) @ affine


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("name", FIELDS)
def test_position(tmp_path: Path, name: str, positions: str) -> None:
    fields, refused = FIELDS[name]
    file = content(positions, **fields)
    path = write(tmp_path / "a.nii", file)
    label = write(tmp_path / "label.nii.gz", content(positions, np.uint8, **fields))
    if positions in refused:
        for refuse in (lambda: read_volume(path), lambda: image_grid(path), lambda: read_label_file(label)):
            with pytest.raises(ImageError, match="no usable position in space: its .*Export it again"):
                refuse()
        return
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine, of_itk(path)[1], atol=1e-3)
    shape, affine = image_grid(path)
    assert shape == SHAPE
    # The label goes the image's way: it lies on its voxels, in one place.
    assert is_on_same_voxels(label, path)
    found = read_label_file(label)
    np.testing.assert_array_equal(found.affine, volume.affine)
    np.testing.assert_array_equal(label_affine(label, found.affine, path, affine), volume.affine)


@pytest.mark.parametrize("positions", ["qform", "sform", "both"])
@pytest.mark.parametrize("name", ["as it should be", "qfac 0", "qfac 2", "qfac NaN", "qfac -1", "qform code -1"])
def test_position_that_nibabel_has_as_well(tmp_path: Path, name: str, positions: str) -> None:
    path = write(tmp_path / "a.nii", content(positions, **FIELDS[name][0]))
    if (name, positions) != ("qform code -1", "qform"):
        np.testing.assert_allclose(read_volume(path).affine, nib.load(path).affine, atol=1e-3)


OFFSETS = (-5, 0, 16, 347, 348, 351, 351.9, 352, 352.5, 353, 368, 400, 4096)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("offset", OFFSETS)
def test_voxels_begin_behind_the_header(tmp_path: Path, suffix: str, offset: float) -> None:
    file = content(dtype=np.int16)
    file = file[:352] + bytes(max(0, int(offset) - 352)) + file[352:]
    path = write(tmp_path / f"a{suffix}", patched(file, vox_offset=offset))
    if offset < 352:
        with pytest.raises(ImageError, match=f"begin at byte {offset:g}; byte 352 or later is expected"):
            read_volume(path)
        return
    voxels = read_volume(path).voxels.numpy()
    np.testing.assert_array_equal(voxels, np.arange(np.prod(SHAPE)).reshape(SHAPE))
    np.testing.assert_array_equal(voxels, of_itk(path)[0])


@pytest.mark.parametrize("offset", [0, 540, 544])
def test_voxels_of_nifti_2_begin_behind_its_header(tmp_path: Path, offset: int) -> None:
    image = nib.Nifti2Image(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), SCANNER)
    file = bytearray(image.to_bytes())
    file[168:176] = np.array([offset], "<i8").tobytes()
    (tmp_path / "a.nii").write_bytes(file)
    if offset < 544:
        with pytest.raises(ImageError, match="byte 544 or later"):
            read_volume(tmp_path / "a.nii")
    else:
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").voxels, image.dataobj)


def test_half_of_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="in another file"):
        read_volume(write(tmp_path / "a.nii", content(magic=b"ni1")))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("slope", [0, 1, 2, 0.5, -1, NAN, float("inf")])
@pytest.mark.parametrize("intercept", [0, 10, NAN])
def test_scaled_values(tmp_path: Path, suffix: str, slope: float, intercept: float) -> None:
    path = write(tmp_path / f"a{suffix}", content(scl_slope=slope, scl_inter=intercept))
    is_scaled = bool(np.isfinite(slope) and slope)
    # By ITK it is added, by nibabel not, or the other way round.
    if (is_scaled and not np.isfinite(intercept)) or (not is_scaled and intercept == 10):
        with pytest.raises(ImageError, match="of which each program makes other values"):
            read_volume(path)
        return
    np.testing.assert_allclose(read_volume(path).voxels, of_itk(path)[0], rtol=1e-6)
    np.testing.assert_allclose(read_volume(path).voxels, nib.load(path).get_fdata(), rtol=1e-6)


@pytest.mark.parametrize(
    "dim", [[3, *SHAPE], [3, *SHAPE, 7, 9], [4, *SHAPE, 1], [5, *SHAPE, 1, 1]], ids=lambda dim: "x".join(map(str, dim))
)
def test_one_volume_of_any_dimension(tmp_path: Path, dim: list[int]) -> None:
    path = write(tmp_path / "a.nii", content(dim=dim))
    assert read_volume(path).voxels.shape == SHAPE and image_grid(path)[0] == SHAPE
    np.testing.assert_array_equal(read_volume(path).voxels.numpy().squeeze(), of_itk(path)[0].squeeze())


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_types_and_byte_orders(tmp_path: Path, kind: str, order: str) -> None:
    array = np.random.default_rng(2).integers(0, 100, SHAPE).astype(kind)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(kind).newbyteorder(order))
    nib.save(nib.Nifti1Image(array, SCANNER, header), tmp_path / "a.nii.gz")
    assert (tmp_path / "a.nii.gz").stat().st_size
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.voxels.numpy(), array)
    np.testing.assert_array_equal(of_itk(tmp_path / "a.nii.gz")[0], array)
    np.testing.assert_allclose(volume.affine, SCANNER, atol=1e-4)
