"""A NIfTI file -> its voxels and affine, read with care: it may come from anybody."""

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.volumeutils import apply_read_scaling

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
    header = _read_header(path, packed)
    shape = tuple(int(length) for length in header.get_data_shape())
    if min(shape, default=0) > 0:
        require_one_volume(shape, path.name)
    offset = _offset(path, header)
    _require_scaling(path, header)
    itemsize = header.get_data_dtype().itemsize
    require_plausible(path, shape, itemsize, offset=0 if packed else offset, packed=packed)
    unpacked = BoundedGzip(path, offset + math.prod(shape) * itemsize) if packed else contextlib.nullcontext()
    with reserved(path.name, reading_bytes(shape, itemsize)), unpacked as stream:
        # Not mapped: uploads are deleted, and files replaced, while the image is held.
        # Not by way of an image, which would take the header's position as it is.
        proxy = ArrayProxy(stream or path, header, mmap=False)
        is_scaled = (proxy.slope, proxy.inter) != (1, 0) and proxy.dtype.kind in "iuf"
        array = _scaled(proxy) if is_scaled else np.asanyarray(proxy)
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
    except ImageError:
        raise
    # ValueError: what nibabel raises for fields that it cannot make sense of.
    except (ValueError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ImageError(f"Image {path.name} cannot be read (its header is damaged). Send it again.") from error


def _read_one_volume(path: Path) -> tuple[tuple[int, ...], Any]:
    header = _read_header(path, path.name.lower().endswith(".gz"))
    shape = tuple(int(length) for length in header.get_data_shape())
    require_one_volume(shape, path.name)
    return shape, header


def _read_header(path: Path, packed: bool) -> Any:
    # By name: nibabel.load would take whatever other format the content looks like.
    for kind in (Nifti1Header, Nifti2Header):
        size = kind.template_dtype.itemsize
        with gzip.open(path) if packed else path.open("rb") as file:
            block = file.read(size)
        if len(block) == size and kind.may_contain_header(block):
            return kind(block, check=False)
    raise ImageError(f"Image {path.name} cannot be read (it has no NIfTI header). Export it again.")


def _scaled(proxy: ArrayProxy) -> np.ndarray:
    """The values as float32; beyond that they are infinite, which counts as outside the image later on."""
    stored = proxy.get_unscaled()
    values: np.ndarray = np.empty(stored.shape, np.float32, order="F")
    # Slice by slice: nibabel makes copies of the whole, which takes twice as long and three times the memory.
    with np.errstate(over="ignore", invalid="ignore"):
        for at in np.ndindex(stored.shape[2:]):
            values[..., *at] = apply_read_scaling(stored[..., *at], np.float32(proxy.slope), np.float32(proxy.inter))
    return values


def _require_scaling(path: Path, header: Any) -> None:
    """Passes if programs agree on the values that stored numbers stand for.

    By the standard and nibabel, a slope of 0 means that nothing is scaled or added; ITK adds.

    Raises:
        ImageError: they do not.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    is_scaled = bool(np.isfinite(slope) and slope)
    if (is_scaled and not np.isfinite(intercept)) or (not is_scaled and np.isfinite(intercept) and intercept):
        raise ImageError(
            f"Image {path.name} cannot be read (its header scales values by {slope:g} and adds {intercept:g}, of which "
            "each program makes other values). Export it again."
        )


def _offset(path: Path, header: Any) -> int:
    """Byte at which the voxels begin.

    Raises:
        ImageError: they are in another file, within the header (where each program reads others), or nowhere.
    """
    if header["magic"].item()[:2] != b"n+":
        raise ImageError(
            f"Image {path.name} says that its voxels are in another file; only files that hold them are read. Save it "
            "as one file (.nii or .nii.gz)."
        )
    first, offset = header.single_vox_offset, float(header["vox_offset"])
    if not first <= offset <= first + _MAX_EXTENSIONS:
        raise ImageError(
            f"Image {path.name} cannot be read (its header says that the voxels begin at byte {offset:g}; byte {first} "
            "or later is expected, behind the header). Export it again."
        )
    return int(offset)
