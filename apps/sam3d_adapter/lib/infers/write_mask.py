"""A mask -> a whole file, or none.

Also a patch: MONAI Label 0.8.5 (``monailabel/transform/writer.py``) copies a mask three times before ITK writes it. On
a full disk it leaves half a file behind, and answers with it where it is NIfTI or compressed, for ITK's writers then
report no failure. We know of no upstream issue.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import itk
import numpy as np

from lib.geometry.axes import transform_points
from lib.volumes.label_grid import box_of

_NIFTI_OFFSET = 352  # bytes, a header without extensions; https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
_MOST_BEFORE_VOXELS = 4096
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class WriteError(RuntimeError):
    """A mask that could not be written to the end."""


def write_mask(mask: np.ndarray, affine: np.ndarray, extension: str, *, compress: bool, crop: bool = False) -> Path:
    """Writes a mask into the temporary folder, to the bytes that MONAI Label's own writer gives.

    Args:
        mask: (i, j, k) uint8.
        affine: (4, 4), voxel index to RAS mm.
        extension: ``".nrrd"``, ``".nii"`` or ``".nii.gz"``.
        compress: whether ``.nrrd`` is compressed.
        crop: write the box around the mask alone, placed by its origin; of an empty mask one voxel.

    Returns:
        A file that the caller removes.

    Raises:
        WriteError: no space, or no right to write; nothing is left behind.
    """
    if crop:
        box = box_of(mask) or (slice(1),) * 3
        mask, affine = mask[box], affine.copy()
        affine[:3, 3] = transform_points(affine, [part.start or 0 for part in box])
    path: Path | None = None
    try:
        handle, name = tempfile.mkstemp(suffix=extension)
        os.close(handle)
        path = Path(name)
        _write(mask, affine, path, compress)
        if not _is_whole(path, mask.size, compress):
            raise OSError("the file is shorter than the mask")
    # RuntimeError: what ITK raises.
    except (OSError, RuntimeError) as error:
        if path is not None:
            path.unlink(missing_ok=True)
        raise WriteError(
            "The mask was made but could not be written: the temporary folder of the server is full or read-only. "
            "Ask its administrator to make room, then click again."
        ) from error
    return path


def _write(mask: np.ndarray, affine: np.ndarray, path: Path, compress: bool) -> None:
    # A view, and of a mask whose i runs fastest no copy before it either.
    image: Any = itk.image_view_from_array(np.ascontiguousarray(mask.transpose(), np.uint8))
    lps = _LPS_FROM_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing)
    image.SetDirection(itk.matrix_from_array(lps[:3, :3] @ np.diag(1 / spacing)))
    image.SetOrigin(lps[:3, 3])
    itk.imwrite(image, str(path), compress)


def _is_whole(path: Path, voxels: int, compress: bool) -> bool:
    """Whether the file holds every voxel, each of which is one byte."""
    if path.name.endswith(".nii"):
        return path.stat().st_size >= _NIFTI_OFFSET + voxels
    if path.name.endswith(".nii.gz"):
        return _unpacked_size(path) == (_NIFTI_OFFSET + voxels) % 2**32
    if compress:
        return _unpacked_size(path) == voxels % 2**32
    with path.open("rb") as file:
        head, blank, _ = file.read(_MOST_BEFORE_VOXELS).partition(b"\n\n")
    return path.stat().st_size >= len(head) + len(blank) + voxels


def _unpacked_size(path: Path) -> int:
    """What the last four bytes of a gzip file say, modulo 2**32 (RFC 1952, section 2.3.1)."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < 18:
            return -1
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")
