"""The small inputs that go wrong elsewhere, each beside what is right of it."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.volumes.label_file import read_label_file
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError

SHARED = os.environ.get("SAM3D_SHARED")
pytestmark = [
    pytest.mark.skipif(not SHARED, reason="SAM3D_SHARED names no folder with cases"),
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
]
CASES = Path(SHARED or "") / "cases"
BALL_HU, BALL_MM3 = 90, 2145
SERIES = ("monochrome1", "orientation_4_decimals", "spacing_between_slices_0", "pixel_spacing_as_text")


def require_ball(name: str, centre: tuple[int, int, int] = (25, 19, 11)) -> None:
    """The ball of 8 mm lies where ITK has its centre voxel, in the values of a CT."""
    volume = read_volume(CASES / name)
    values = volume.voxels.numpy()
    assert values.min() > -200 and values.max() < 300
    bright = np.argwhere(values > BALL_HU)
    assert abs(len(bright) * abs(np.linalg.det(volume.affine[:3, :3])) / BALL_MM3 - 1) < 0.1
    np.testing.assert_allclose(bright.mean(0), centre, atol=0.2)


@pytest.mark.parametrize(
    "name", ["qfac0_qform_only.nii.gz", "qfac0_both.nii.gz", "sform_zero_qform_good.nii.gz", "int64.nrrd",
             "one_volume_4d.nrrd"]
)  # fmt: skip
def test_files_that_are_read(name: str) -> None:
    require_ball(name)
    image = sitk.ReadImage(str(CASES / name))
    shown = np.array(image.TransformIndexToPhysicalPoint((25, 19, 11)))
    np.testing.assert_allclose(
        read_volume(CASES / name).affine @ [25, 19, 11, 1], [*(shown * (-1, -1, 1)), 1], atol=1e-4
    )


@pytest.mark.parametrize("name", SERIES)
def test_series_that_are_read(name: str) -> None:
    require_ball(f"dicom_{name}")


@pytest.mark.parametrize("name", ["vox_offset_0.nii", "vox_offset_0_label.nii", "dicom_no_pixel_spacing"])
def test_what_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="byte 352 or later|how large its pixels are"):
        read_volume(CASES / name)


def test_labels() -> None:
    file = read_label_file(CASES / "overlapping.seg.nrrd")
    assert [file.texts[f"Segment{number}_Name"] for number in file.segments()] == ["lesion", "organ"]
    assert len(set(file.numbers([1])) & set(file.numbers([2]))) == 1
    assert set(np.unique(read_label_file(CASES / "label_0_1_2_int16_header.nii.gz").voxels)) == {0, 1, 2}
    label, image = CASES / "qfac0_both_label.nii.gz", CASES / "qfac0_both.nii.gz"
    np.testing.assert_allclose(read_label_file(label).affine, read_volume(image).affine)
