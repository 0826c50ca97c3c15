"""Path of an image -> the image as it is stored."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lib.volumes import nifti
from lib.volumes.dicom_image import read_image, voxels_and_affine
from lib.volumes.dicom_series import check_series
from lib.volumes.itk_formats import READERS, read_itk
from lib.volumes.memory import MemoryShortage
from lib.volumes.volume import ImageError, Volume, VolumeCache, make_volume

__all__ = ["ImageError", "VolumeCache", "open_volume", "read_array", "read_volume"]

logger = logging.getLogger(__name__)

DICOM = ("", ".dcm")


def open_volume(path: Path, cache: VolumeCache | None = None) -> Volume:
    """The image of a request.

    Integers stay in their type: a volume is never converted to float as a whole, only what a click needs of it.

    Args:
        path: an image file, or a folder with one DICOM series.
        cache: shared by the tasks of a process; None to read the file every time.

    Raises:
        ImageError: there is no image that can be segmented.
        MemoryShortage: it does not fit.
    """
    try:
        return cache.get(path, read_volume) if cache is not None else read_volume(path)
    except FileNotFoundError as error:
        raise ImageError(f"Image {path.name} does not exist on this server. Load the study again.") from error


def read_volume(path: Path) -> Volume:
    """Reads an image file, or a folder with one DICOM series.

    Raises:
        ImageError: a file that cannot be read, or no volume.
        MemoryShortage: too large for this server at the moment.
        FileNotFoundError: no such file.
    """
    array, affine = read_array(path)
    return make_volume(array, affine, path.name)


def read_array(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (i, j, k) and (4, 4) affine of a file or folder, whatever they are of.

    Raises:
        ImageError: a file that cannot be read.
        MemoryShortage: too large for this server at the moment.
        FileNotFoundError: no such file.
    """
    with guarded(path):
        return _read(path)


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Whatever a damaged file leads to becomes an `ImageError`.

    Raises:
        ImageError: the file cannot be read.
        MemoryShortage: too large for this server at the moment.
        FileNotFoundError: no such file.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        yield
    except (ImageError, MemoryShortage, MemoryError):
        raise
    # Broad: the readers pass on whatever a damaged file led to, and each means that the image cannot be read.
    except Exception as error:
        # The reader's own words name its classes, addresses and paths, which say nothing to who sent the file.
        logger.info("An image could not be read: %s.", type(error).__name__)
        raise ImageError(
            f"Image {path.name} cannot be read: it was cut off or damaged, or it is no such file as its name says. A "
            "complete NIfTI, NRRD, MetaImage or DICOM file is expected; send it again."
        ) from error


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if path.name.lower().endswith(nifti.SUFFIXES):
        return nifti.read_nifti(path)
    if path.suffix.lower() in READERS:
        return read_itk(path)
    if path.is_dir() or path.suffix.lower() in DICOM or path.suffix[1:].isdecimal():
        return voxels_and_affine(read_image(check_series(path), path.name))
    raise ImageError(
        f"Image {path.name} cannot be read: files of type {path.suffix} are not. Save it as NIfTI, NRRD, MetaImage or "
        "DICOM."
    )
