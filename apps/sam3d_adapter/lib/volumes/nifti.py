"""A NIfTI file -> its voxels and affine, read with care: it may come from anybody."""

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Image
from nibabel.spatialimages import HeaderDataError

from lib.volumes.header_validation import reading_bytes, require_plausible
from lib.volumes.memory import reserved
from lib.volumes.nifti_frame import is_same_affine, named_affines, viewers_affine
from lib.volumes.unpacking import BoundedGzip
from lib.volumes.volume import ImageError, require_one_volume

SUFFIXES = (".nii", ".nii.gz")

_MAX_EXTENSIONS = 2**24
"""Bytes between header and voxels, where texts of other programs lie; nobody writes that many."""


def read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The array in the file's axis order, and the (4, 4) affine from voxel index to RAS mm, as viewers have it.

    Values come in their stored type, or as float32 where the header scales them.

    Raises:
        ImageError: a header that cannot be true.
        MemoryShortage: too large for this server at the moment.
        Exception: whatever else a damaged file leads to.
    """
    packed = path.name.lower().endswith(".gz")
    kind, header = _read_header(path, packed)
    offset = int(header["vox_offset"])
    if not 0 <= offset <= _MAX_EXTENSIONS:
        raise ImageError(f"Image {path.name} cannot be read (its voxels begin at byte {offset}). Export it again.")
    shape = tuple(int(length) for length in header.get_data_shape())
    if min(shape, default=0) > 0:
        require_one_volume(shape, path.name)
    itemsize = header.get_data_dtype().itemsize
    require_plausible(path, shape, itemsize, offset=0 if packed else offset, packed=packed)
    unpacked = BoundedGzip(path, offset + math.prod(shape) * itemsize) if packed else contextlib.nullcontext()
    with reserved(path.name, reading_bytes(shape, itemsize)), unpacked as stream:
        # Not mapped: uploads are deleted, and files replaced, while the image is held.
        image = kind.from_filename(path, mmap=False) if stream is None else kind.from_stream(stream)
        proxy = image.dataobj
        # Unscaled values come in their stored type; scaled ones would come as float64.
        scaled = (proxy.slope, proxy.inter) != (1, 0) and proxy.dtype.kind in "iuf"
        # Values beyond float32 become infinite, which counts as outside the image later on.
        with np.errstate(over="ignore", invalid="ignore"):
            array = np.asanyarray(proxy, dtype=np.float32 if scaled else None)
        if stream is not None:
            stream.require_end()
        return array, viewers_affine(path, header)


def read_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and (4, 4) affine from voxel index to RAS mm, as viewers have it, of the header alone.

    Raises:
        ImageError: a header that is none, or not of one volume.
        OSError: the file cannot be read.
    """
    with _header_errors(path):
        shape, header = _read_one_volume(path)
        return shape, viewers_affine(path, header)


def is_on_same_voxels(label: Path, image: Path) -> bool:
    """Whether two NIfTI files of one volume have the same voxels by any position that both of their headers name.

    Programs differ in which position of an image they hand on to a label: nibabel the sform, where ITK may take the
    qform, and for an image without a position each its own invention. Of as many voxels in a place that the image's
    header names as well, such a label is one of the image.

    Raises:
        ImageError: a header that is none, or not of one volume.
        OSError: a file cannot be read.
    """
    found = []
    for path in (label, image):
        if not path.name.lower().endswith(SUFFIXES):
            return False
        with _header_errors(path):
            shape, header = _read_one_volume(path)
            found.append((shape[:3], named_affines(path, header)))
    (shape, ours), (of_image, theirs) = found
    return shape == of_image and any(is_same_affine(one, other, shape) for one in theirs for other in ours)


@contextlib.contextmanager
def _header_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (ImageFileError, HeaderDataError, np.linalg.LinAlgError, EOFError, zlib.error) as error:
        raise ImageError(f"Image {path.name} cannot be read ({error}). Send it again.") from error


def _read_one_volume(path: Path) -> tuple[tuple[int, ...], Any]:
    _, header = _read_header(path, path.name.lower().endswith(".gz"))
    shape = tuple(int(length) for length in header.get_data_shape())
    require_one_volume(shape, path.name)
    return shape, header


def _read_header(path: Path, packed: bool) -> tuple[Any, Any]:
    # By name: nibabel.load would take whatever other format the content looks like.
    for kind in (Nifti1Image, Nifti2Image):
        size = kind.header_class.template_dtype.itemsize
        with gzip.open(path) if packed else path.open("rb") as file:
            block = file.read(size)
        if len(block) == size and kind.header_class.may_contain_header(block):
            return kind, kind.header_class(block, check=False)
    raise ImageFileError("no NIfTI header")
