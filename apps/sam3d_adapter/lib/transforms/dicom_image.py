"""The slices of a DICOM series -> an image.

ITK is told which files to read: of a folder it takes those that it thinks belong together, and by its rules a slice
that differs from the others in thickness, date or name of its sequence does not.
"""

from typing import Any

import numpy as np
import SimpleITK as sitk

from lib.transforms.dicom_series import DicomSeries
from lib.transforms.volume import ImageError

_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_image(series: DicomSeries, name: str) -> Any:
    """The series as an image of SimpleITK.

    Args:
        series: checked.
        name: of it, for messages.

    Raises:
        ImageError: the files hold other voxels than their headers say.
        Exception: whatever else a damaged file leads to.
    """
    files = [str(file) for file in series.files]
    reader: Any = sitk.ImageFileReader() if len(files) == 1 else sitk.ImageSeriesReader()
    # By name, as the end of a file's name need not say what it is.
    reader.SetImageIO("GDCMImageIO")
    if len(files) == 1:
        reader.SetFileName(files[0])
    else:
        reader.SetFileNames(files)
    image = reader.Execute()
    if image.GetSize() != series.shape:
        raise ImageError(
            f"Series {name} has {' x '.join(map(str, series.shape))} voxels by its headers, and "
            f"{' x '.join(map(str, image.GetSize()))} were read. It is damaged; send it again."
        )
    return image


def voxels_and_affine(image: Any) -> tuple[np.ndarray, np.ndarray]:
    """The array (i, j, k), and the (4, 4) affine from voxel index to RAS mm, of an image of SimpleITK."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(), _RAS_FROM_LPS @ affine
