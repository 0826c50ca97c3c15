"""An image in memory, and the store of the images used last."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from torch import Tensor

from lib.geometry.axes import Array, AxesError, image_directions, spacing_of

logger = logging.getLogger(__name__)


MIN_SPACING_MM, MAX_SPACING_MM = 0.001, 100.0
"""Beyond these a unit was mistaken: micro-CT has 0.005 mm, the thickest slices of any scanner a few centimetres."""
MAX_SHEAR_DEG = 0.5
"""How far two axes may be from a right angle; a region of 128 mm is then out of shape by 1 mm."""
MAX_FILES = 1024
"""Of the store: names of equal images take no room of their own, and must not pile up."""


class ImageError(ValueError):
    """An image that cannot be segmented: what it is, what is expected, what to do."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One image, shared by all requests that name it: nobody may write into it.

    Attributes:
        voxels: (i, j, k), in the order and, for integers, the type of the file.
        affine: (4, 4), voxel index to RAS mm.
        content_key: equal for images of equal voxels, type and affine, whatever their files are called: a sha256.
        overlaps: of a label map with segments that overlap, as `lib.volumes.label_file.LabelFile` has them.
    """

    voxels: Tensor
    affine: Array
    content_key: str
    overlaps: Mapping[int, tuple[int, ...]] | None = None
    _statistics: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels."""
        return self.voxels.numel() * self.voxels.element_size()

    def statistic(self, key: Hashable, compute: Callable[[Tensor], Any]) -> Any:
        """What ``compute`` gives for the voxels, worked out once per ``key`` and kept as long as the volume."""
        with self._lock:
            if key not in self._statistics:
                self._statistics[key] = compute(self.voxels)
            return self._statistics[key]


def make_volume(array: np.ndarray, affine: np.ndarray, name: str) -> Volume:
    """Checks an image and keeps its type where torch can compute with it.

    Args:
        array: (i, j, k); trailing axes of one voxel are dropped.
        affine: (4, 4), voxel index to RAS mm.
        name: for messages.

    Raises:
        ImageError: not three axes of two or more voxels, no real numbers, an affine that gives no frame in space.
    """
    require_one_volume(array.shape, name)
    array = array.reshape(array.shape[:3], order="A")
    if array.dtype.kind not in "biuf":
        raise ImageError(f"Image {name} holds values of type {array.dtype}; one real number per voxel is expected.")
    require_frame(affine, name)
    array = _torch_type(array, name)
    affine = np.array(affine, dtype=np.float64)
    affine.setflags(write=False)
    return Volume(torch.from_numpy(array), affine, _content_key(array, affine))


def require_one_volume(shape: Sequence[int], name: str) -> None:
    """Passes if a shape is that of one volume, whatever axes of one voxel follow.

    Raises:
        ImageError: it is not.
    """
    if len(shape) < 3 or min(shape[:3]) < 2 or any(length != 1 for length in shape[3:]):
        raise ImageError(
            f"Image {name} has {len(shape)} axes of {' x '.join(map(str, shape))} voxels; one volume of 3 axes "
            "with at least 2 voxels each is expected. Choose one volume of a series, not a slice or a time series."
        )


def require_frame(affine: np.ndarray, name: str) -> None:
    """Passes if an affine to mm has upright axes and voxels of a size that images have.

    Raises:
        ImageError: it does not.
    """
    try:
        image_directions(affine)
        spacing = spacing_of(affine)
    except AxesError as error:
        raise ImageError(f"Image {name} has no usable position in space. {error} Export it again.") from error
    if spacing.min() < MIN_SPACING_MM or spacing.max() > MAX_SPACING_MM:
        raise ImageError(
            f"Image {name} has voxels of {' x '.join(f'{length:.3g}' for length in spacing)} mm; {MIN_SPACING_MM} to "
            f"{MAX_SPACING_MM} mm are expected. Correct the unit of its spacing."
        )
    axes = np.asarray(affine, np.float64)[:3, :3] / spacing
    cosines = axes.T @ axes
    shear = float(np.degrees(np.arcsin(min(1.0, np.abs(cosines - np.diag(np.diag(cosines))).max()))))
    if shear > MAX_SHEAR_DEG:
        raise ImageError(
            f"Image {name} has axes that are {90 - shear:.1f} degrees apart, as after a tilted gantry; 90 degrees are "
            f"expected (within {MAX_SHEAR_DEG}). Resample it onto an upright grid."
        )


def _torch_type(array: np.ndarray, name: str) -> np.ndarray:
    """The array in its own type if torch computes with it, else in the smallest one that holds its values.

    Raises:
        ImageError: there is none.
    """
    kind, size = array.dtype.kind, array.dtype.itemsize
    wanted: np.dtype[Any] = array.dtype.newbyteorder("=")
    if kind == "f":
        # Beyond float32 is beyond any unit; infinite values count as outside the image.
        wanted = np.dtype(np.float32)
    elif kind == "b":
        wanted = np.dtype(np.uint8)
    elif kind == "u" and size > 1:
        wanted = np.dtype(np.int32 if size == 2 else np.int64)
        if size == 8 and array.max() > np.iinfo(np.int64).max:
            raise ImageError(
                f"Image {name} holds the value {array.max()}; at most {np.iinfo(np.int64).max} is accepted. Save it "
                "with another type."
            )
    with np.errstate(over="ignore", invalid="ignore"):
        array = array.astype(wanted, copy=False)
    # torch takes neither read-only arrays nor such that run backwards.
    usable = array.flags.writeable and min(array.strides) > 0
    return array if usable else array.copy(order="K")


def _content_key(array: np.ndarray, affine: np.ndarray) -> str:
    # Of what hashlib has, the fastest where the processor knows it, as those of the last years do: 0.13 s for
    # 512 x 512 x 400 int16, half of BLAKE2b's time.
    digest = hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + affine.tobytes())
    # Files run i fastest, so this is the memory as it lies, without a copy.
    digest.update(np.ascontiguousarray(array.T).data)
    return digest.hexdigest()


class VolumeCache:
    """Keeps the images used last, and with them their statistics.

    A file that was replaced is another image: entries are found by path, size, modification time and inode. Of requests
    that ask for the same file at the same time, one reads it and the others wait. Files of equal content share one
    image: MITK sends its image anew with every click, under a new name.

    Args:
        max_bytes: budget for the voxels. An image larger than the whole budget is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes (={max_bytes}) must not be negative.")
        self._volumes: LRUCache[str, Volume] = LRUCache(max_bytes, getsizeof=lambda volume: volume.nbytes)
        self._contents: LRUCache[Hashable, str] = LRUCache(MAX_FILES)
        self._reading: set[Hashable] = set()
        self._lock = threading.Condition()

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return int(self._volumes.currsize)

    def get(self, path: Path, read: Callable[[Path], Volume]) -> Volume:
        """The image of a file, read with ``read`` if it is not held.

        Raises:
            OSError: the file does not exist.
        """
        key = file_key(path)
        with self._lock:
            self._lock.wait_for(lambda: key not in self._reading)
            if (held := self._volumes.get(self._contents.get(key, ""))) is not None:
                return held
            self._reading.add(key)
        try:
            volume = read(path)
            # Replaced while it was read: what was read may be neither the old nor the new image.
            return self._put(key, volume) if file_key(path) == key else volume
        finally:
            # Only now that the image is kept: a request let in before would read the file again.
            with self._lock:
                self._reading.remove(key)
                self._lock.notify_all()

    def _put(self, key: Hashable, volume: Volume) -> Volume:
        max_bytes = self._volumes.maxsize
        if volume.nbytes > max_bytes:
            logger.warning("An image of %d bytes exceeds the cache of %d bytes.", volume.nbytes, max_bytes)
            return volume
        with self._lock:
            self._contents[key] = volume.content_key
            return self._volumes.setdefault(volume.content_key, volume)


def file_key(path: Path) -> tuple[Hashable, ...]:
    """Changes when the file, or a file of the folder, is replaced.

    Raises:
        OSError: the file does not exist.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [os.stat(file) for file in files]
    return (str(path.resolve()), *((s.st_size, s.st_mtime_ns, s.st_ino) for s in stats))
