"""What an image file says it holds, against what it can hold: asked before memory is taken for it."""

import math
from collections.abc import Sequence
from pathlib import Path

from lib.volumes.memory import READING
from lib.volumes.volume import ImageError

MAX_VOXELS = 2**30
"""1024 cubed, 2 GiB as int16: more than any clinical series; a small compressed file can claim to be larger."""
DEFLATE_RATIO = 1040
"""No byte of a gzip file gives more: 258 bytes for two bits (RFC 1951), and some for the frame around them."""


def require_plausible(path: Path, shape: Sequence[int], itemsize: int, *, offset: int, packed: bool) -> None:
    """Passes if a file may hold the voxels its header speaks of.

    Args:
        path: of the file with the voxels.
        shape: voxels along each axis, as the header has it.
        itemsize: bytes per voxel in the file, unpacked.
        offset: bytes before the voxels; 0 where they are compressed as well.
        packed: whether the voxels are compressed with gzip.

    Raises:
        ImageError: no such image can be in that file.
    """
    sizes = " x ".join(str(length) for length in shape[:8])
    if not shape or min(shape) < 1:
        raise ImageError(f"Image {path.name} says that it has {sizes or 'no'} voxels. Export it again.")
    voxels = math.prod(shape)
    if voxels > MAX_VOXELS:
        raise ImageError(
            f"Image {path.name} has {sizes} voxels; at most {MAX_VOXELS} are accepted. Crop or resample it first."
        )
    stored, held = voxels * itemsize, path.stat().st_size
    if stored > (held - offset) * (DEFLATE_RATIO if packed else 1):
        raise ImageError(
            f"Image {path.name} cannot be read (its header speaks of {sizes} voxels, {stored} bytes; the file of "
            f"{held} bytes does not hold them). It was cut off or damaged; send it again."
        )


def reading_bytes(shape: Sequence[int], itemsize: int) -> int:
    """Most bytes that it takes to read an image: its voxels twice, and what becomes of their values.

    Args:
        shape: voxels along each axis.
        itemsize: bytes per voxel in the file, unpacked.
    """
    return math.prod(shape) * (2 * itemsize + READING)
