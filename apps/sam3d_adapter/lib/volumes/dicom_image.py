"""The slices of a DICOM series -> an image.

ITK is told which files to read: of a folder it takes those that it thinks belong together, and by its rules a slice
that differs from the others in thickness, date or name of its sequence does not. Frames of one file it stacks as they
are stored, wherever they lie; and it reads all slices as the type of number that the first one needs.
"""

from typing import Any

import numpy as np
import SimpleITK as sitk

from lib.volumes.dicom_series import DicomSeries
from lib.volumes.header_validation import reading_bytes
from lib.volumes.memory import reserved
from lib.volumes.volume import ImageError

_SPACING_TOLERANCE = 1e-3
"""Share of the slice distance; ITK works it out from two frames, whose positions are rounded."""
_ITEMSIZE = 4
"""Bytes per voxel of int32 and float32, beyond which no value of a DICOM image is read."""
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_image(series: DicomSeries, name: str) -> Any:
    """The series as an image of SimpleITK.

    Args:
        series: checked.
        name: of it, for messages.

    Returns:
        Its slices ascend along (row x column) of their orientation.

    Raises:
        ImageError: the files hold other voxels than their headers say.
        MemoryShortage: too large for this server at the moment.
        Exception: whatever else a damaged file leads to.
    """
    files = [str(file) for file in series.files]
    reader: Any = sitk.ImageFileReader() if len(files) == 1 else sitk.ImageSeriesReader()
    # By name, as the end of a file's name need not say what it is.
    reader.SetImageIO("GDCMImageIO")
    if series.is_float:
        # ITK alone would take eight bytes a voxel.
        reader.SetOutputPixelType(sitk.sitkFloat32)
    if len(files) == 1:
        reader.SetFileName(files[0])
    else:
        reader.SetFileNames(files)
    with reserved(name, reading_bytes(series.shape, _ITEMSIZE)):
        image = reader.Execute()
    if image.GetSize() != series.shape:
        raise ImageError(
            f"Series {name} has {' x '.join(map(str, series.shape))} voxels by its headers, and "
            f"{' x '.join(map(str, image.GetSize()))} were read. It is damaged; send it again."
        )
    return _in_order(image, series) if len(files) == 1 else image


def _in_order(image: Any, series: DicomSeries) -> Any:
    spacing, direction = image.GetSpacing(), np.array(image.GetDirection()).reshape(3, 3)
    is_near = abs(spacing[2] - series.distance_mm) < _SPACING_TOLERANCE * series.distance_mm
    if is_near and series.order == tuple(range(len(series.order))):
        return image
    placed = sitk.GetImageFromArray(sitk.GetArrayViewFromImage(image)[list(series.order)])
    placed.SetSpacing((*spacing[:2], series.distance_mm))
    i, j = direction[:, 0], direction[:, 1]
    placed.SetDirection(np.stack([i, j, np.cross(i, j)], axis=1).ravel().tolist())
    placed.SetOrigin(series.origin)
    return placed


def voxels_and_affine(image: Any) -> tuple[np.ndarray, np.ndarray]:
    """The array (i, j, k), and the (4, 4) affine from voxel index to RAS mm, of an image of SimpleITK."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(), _RAS_FROM_LPS @ affine
