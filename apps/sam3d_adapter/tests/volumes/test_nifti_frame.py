"""A NIfTI file lies where viewers on ITK show it, whatever its header leaves open."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.infers.write_mask import write_mask
from lib.volumes.label_grid import image_grid
from lib.volumes.nifti import is_on_same_voxels
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError
from tests.support.geometry import affines, make_affine

# ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")

SHAPE = (9, 8, 7)
CODES = (0, 1, 2, 4)
CORNERS = list(product(*((0, length - 1) for length in SHAPE)))
SCANNER = make_affine("LPS", (0.8, 0.9, 2.5), (4, -3, 10), (60, -40, 90))
ATLAS = make_affine("RAS", (0.8, 0.9, 2.5), (0, 0, 0), (50, -47, 101))


def write(
    path: Path,
    *,
    qform: tuple[np.ndarray | None, int] = (None, 0),
    sform: tuple[np.ndarray | None, int] = (None, 0),
    zooms: tuple[float, ...] = (0.8, 0.9, 2.5),
    unit: str = "mm",
    kind: type = nib.Nifti1Image,
) -> Path:
    image = kind(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), None)
    image.header.set_zooms(zooms)
    if qform[0] is not None:
        image.set_qform(qform[0], qform[1])
    if sform[0] is not None:
        image.set_sform(sform[0], sform[1])
    image.header["qform_code"], image.header["sform_code"] = qform[1], sform[1]
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def shown(path: Path) -> np.ndarray:
    """RAS mm of the corners, as ITK places them having read the whole file."""
    image = sitk.ReadImage(str(path))
    return np.array([image.TransformIndexToPhysicalPoint(corner) for corner in CORNERS]) * (-1, -1, 1)


def placed(affine: np.ndarray) -> np.ndarray:
    return np.array(CORNERS) @ affine[:3, :3].T + affine[:3, 3]


def require_agreement(path: Path) -> None:
    """Image, header alone and the mask that a viewer gets, against ITK; within a hundredth of the smallest voxel."""
    volume = read_volume(path)
    tolerance = 0.01 * np.linalg.norm(volume.affine[:3, :3], axis=0).min() + 1e-4
    np.testing.assert_allclose(placed(volume.affine), shown(path), atol=tolerance)
    shape, affine = image_grid(path)
    assert shape == SHAPE
    np.testing.assert_array_equal(affine, volume.affine)
    for extension in (".nrrd", ".nii.gz"):
        mask = write_mask(np.ones(SHAPE, np.uint8), volume.affine, extension, compress=False)
        try:
            np.testing.assert_allclose(shown(mask), shown(path), atol=tolerance)
        finally:
            mask.unlink()


@pytest.mark.parametrize("sform_code", CODES)
@pytest.mark.parametrize("qform_code", CODES)
def test_two_positions(tmp_path: Path, qform_code: int, sform_code: int) -> None:
    path = write(tmp_path / "a.nii.gz", qform=(SCANNER, qform_code), sform=(ATLAS, sform_code))
    require_agreement(path)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(CODES), affines, st.sampled_from(CODES), st.one_of(st.none(), affines), st.sampled_from(("", ".gz"))
)
def test_any_two_positions(
    tmp_path_factory: pytest.TempPathFactory,
    qform_code: int,
    qform: np.ndarray,
    sform_code: int,
    sform: np.ndarray | None,
    suffix: str,
) -> None:
    # Most files have one position twice; ITK's choice between them is then one of digits.
    path = tmp_path_factory.getbasetemp() / f"any.nii{suffix}"
    zooms = tuple(np.linalg.norm(qform[:3, :3], axis=0))
    require_agreement(
        write(path, qform=(qform, qform_code), sform=(qform if sform is None else sform, sform_code), zooms=zooms)
    )


@pytest.mark.parametrize(("unit", "per_mm"), [("meter", 0.001), ("micron", 1000.0), ("mm", 1.0), ("unknown", 1.0)])
@pytest.mark.parametrize("codes", [(0, 0), (0, 2), (1, 0), (1, 1)])
def test_units(tmp_path: Path, unit: str, per_mm: float, codes: tuple[int, int]) -> None:
    scaled = SCANNER.copy()
    scaled[:3] *= per_mm
    zooms = tuple(np.linalg.norm(scaled[:3, :3], axis=0))
    path = write(tmp_path / "a.nii", qform=(scaled, codes[0]), sform=(scaled, codes[1]), zooms=zooms, unit=unit)
    require_agreement(path)
    # In millimetres whatever the unit, so that the region around a click is of the size it should be.
    np.testing.assert_allclose(np.linalg.norm(read_volume(path).affine[:3, :3], axis=0), (0.8, 0.9, 2.5), rtol=1e-5)


@pytest.mark.parametrize("zooms", [(1.6, 0.9, 2.5), (0.8, 0.9, 2.51)])
def test_voxel_sizes_that_the_sform_contradicts(tmp_path: Path, zooms: tuple[float, ...]) -> None:
    path = write(tmp_path / "a.nii", sform=(ATLAS, 2))
    content = bytearray(path.read_bytes())
    content[80:92] = np.array(zooms, "<f4").tobytes()
    path.write_bytes(content)
    require_agreement(path)


def test_negative_voxel_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", sform=(ATLAS, 2))
    content = bytearray(path.read_bytes())
    content[80:84] = np.array([-0.8], "<f4").tobytes()
    path.write_bytes(content)
    require_agreement(path)


def test_usual_header_keeps_all_its_digits(tmp_path: Path) -> None:
    for affine in (np.eye(4), SCANNER):
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), affine), tmp_path / "a.nii")
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").affine, nib.load(tmp_path / "a.nii").affine)


def test_what_itk_cannot_read_keeps_its_own_position(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", sform=(SCANNER, 2), kind=nib.Nifti2Image)
    with pytest.raises(RuntimeError):
        sitk.ReadImage(str(path))
    np.testing.assert_allclose(read_volume(path).affine, SCANNER, atol=1e-5)


@pytest.mark.parametrize("qform_code", [0, 1])
def test_slanted_axes_are_refused_with_and_without_an_upright_qform(tmp_path: Path, qform_code: int) -> None:
    slanted = ATLAS.copy()
    slanted[0, 1] = 0.9 * np.sin(np.radians(5))
    with pytest.raises(ImageError, match="degrees apart"):
        read_volume(write(tmp_path / "a.nii", qform=(SCANNER, qform_code), sform=(slanted, 2)))


@pytest.fixture
def warnings_shown() -> Iterator[None]:
    """As they are unless the server has silenced them, which other tests do for good."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    yield
    sitk.ProcessObject.SetGlobalWarningDisplay(before)


@pytest.mark.usefixtures("warnings_shown")
def test_no_path_gets_into_the_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "anna_maier.nii", sform=(ATLAS, 2), zooms=(1.6, 0.9, 2.5))
    path.write_bytes(path.read_bytes()[:80] + np.array([1.6], "<f4").tobytes() + path.read_bytes()[84:])
    sitk.ReadImage(str(path))
    assert "anna_maier" in capfd.readouterr().err  # so would ours say
    read_volume(path)
    assert "anna_maier" not in "".join(capfd.readouterr())
    assert sitk.ProcessObject.GetGlobalWarningDisplay()


NO_POSITION: dict = {}
TWO_POSITIONS: dict = {"qform": (SCANNER, 1), "sform": (ATLAS, 2)}


@pytest.mark.parametrize("header", [NO_POSITION, TWO_POSITIONS], ids=["none", "two"])
def test_a_label_by_another_program_is_on_the_same_voxels(tmp_path: Path, header: dict) -> None:
    image = write(tmp_path / "image.nii.gz", **header)
    voxels = np.ones(SHAPE, np.uint8)
    # As nibabel's users hand on a position; it is not the one that ITK takes.
    nib.save(nib.Nifti1Image(voxels, nib.load(image).affine), tmp_path / "label.nii.gz")
    assert np.abs(shown(tmp_path / "label.nii.gz") - shown(image)).max() > 5
    assert is_on_same_voxels(tmp_path / "label.nii.gz", image)
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(image)), sitk.sitkUInt8), str(tmp_path / "itk.nii"))
    assert is_on_same_voxels(tmp_path / "itk.nii", image)


@pytest.mark.parametrize("header", [NO_POSITION, TWO_POSITIONS], ids=["none", "two"])
def test_a_label_elsewhere_or_of_another_size_is_not(tmp_path: Path, header: dict) -> None:
    image = write(tmp_path / "image.nii.gz", **header)
    affine = nib.load(image).affine.copy()
    affine[0, 3] += 0.1
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), affine), tmp_path / "moved.nii.gz")
    assert not is_on_same_voxels(tmp_path / "moved.nii.gz", image)
    nib.save(nib.Nifti1Image(np.ones((9, 8, 6), np.uint8), nib.load(image).affine), tmp_path / "cut.nii.gz")
    assert not is_on_same_voxels(tmp_path / "cut.nii.gz", image)
    (tmp_path / "label.nrrd").write_bytes(b"")
    assert not is_on_same_voxels(tmp_path / "label.nrrd", image)
    (tmp_path / "torn.nii").write_bytes(b"x" * 400)
    with pytest.raises(ImageError, match=r"torn\.nii cannot be read"):
        is_on_same_voxels(tmp_path / "torn.nii", image)
