"""The slices of a DICOM series -> an image.

ITK is told which files to read: of a folder it takes those that it thinks belong together, and by its rules a slice
that differs from the others in thickness, date or name of its sequence does not. Frames of one file it stacks as they
are stored, wherever they lie; it reads all slices as the type of number that the first one needs; it turns values
round that a viewer is to show dark; and where a header lacks a pixel size or gives odd directions, it makes them up.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from lib.geometry.axes import Array
from lib.volumes.dicom_series import DicomSeries
from lib.volumes.header_validation import reading_bytes
from lib.volumes.memory import reserved
from lib.volumes.nifti_frame import is_same_affine
from lib.volumes.volume import ImageError

_SAME_VOXELS = 1e-3
"""Voxels by which the corners may lie elsewhere by ITK, which works out distances from two rounded positions."""
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
    with reserved(name, reading_bytes(series.shape, _ITEMSIZE)), _readable(series) as files:
        image = _read(files, series)
    if image.GetSize() != series.shape:
        raise ImageError(
            f"Series {name} has {' x '.join(map(str, series.shape))} voxels by its headers, and "
            f"{' x '.join(map(str, image.GetSize()))} were read. It is damaged; send it again."
        )
    return _placed(image, series)


@contextlib.contextmanager
def _readable(series: DicomSeries) -> Iterator[list[str]]:
    """The files, or copies of them without what keeps ITK from reading the values as they are stored.

    How a viewer shows them (MONOCHROME1) changes no values, and their distance is known from their places.
    """
    if not (series.is_inverted or series.misleads_itk):
        yield [str(file) for file in series.files]
        return
    with tempfile.TemporaryDirectory(prefix="series-") as folder:
        copies = []
        for rank, file in enumerate(series.files):
            dataset = pydicom.dcmread(file)
            dataset.PhotometricInterpretation = "MONOCHROME2"
            dataset.walk(_remove_distance)
            copies.append(f"{folder}{os.sep}{rank:06d}.dcm")
            dataset.save_as(copies[-1])
        yield copies


def _remove_distance(dataset: Dataset, element: Any) -> None:
    if element.keyword == "SpacingBetweenSlices":
        del dataset[element.tag]


def _read(files: list[str], series: DicomSeries) -> Any:
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
    return reader.Execute()


def _placed(image: Any, series: DicomSeries) -> Any:
    """The image with its slices in their order, where the series says that they lie."""
    shown, affine = _index_to_lps(image), np.array(series.index_to_lps)
    is_in_order = series.order == tuple(range(len(series.order)))
    # Nearly the same is left as it is: other programs get the same digits from ITK.
    if is_in_order and is_same_affine(affine, shown, series.shape, tolerance=_SAME_VOXELS):
        return image
    if not is_in_order:
        image = sitk.GetImageFromArray(sitk.GetArrayViewFromImage(image)[list(series.order)])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def voxels_and_affine(image: Any) -> tuple[np.ndarray, np.ndarray]:
    """The array (i, j, k, ...), and the (4, 4) affine from voxel index to RAS mm, of an image of SimpleITK.

    Axes of the image beyond the third come next, and the numbers of a voxel that has several last.
    """
    axes, array = image.GetDimension(), sitk.GetArrayFromImage(image)
    order = (*range(axes)[::-1], *range(axes, array.ndim))
    return array.transpose(order), _RAS_FROM_LPS @ _index_to_lps(image)


def _index_to_lps(image: Any) -> Array:
    axes = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (axes, axes))[:3, :3] * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return affine
