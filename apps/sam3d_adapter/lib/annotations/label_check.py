"""What a label holds, looked at when it is submitted: refused, or taken with sentences on how it is read."""

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lib.annotations.label_names import NamesError, named_values, require_consistent
from lib.annotations.slice_gaps import SliceGapsError, require_filled
from lib.annotations.submitted import MAX_OBJECTS, SubmittedError, read_label
from lib.geometry.axes import Array, transform_points
from lib.volumes import nifti
from lib.volumes.label_file import LabelFile
from lib.volumes.label_grid import SAME_GRID_VOXELS, image_grid, is_same_grid, label_affine

LEAST_INSIDE = 0.5
"""Share of what is drawn that has to lie in the image; organs may well reach beyond it."""
NOTHING_FOUND = "The label is empty: it is kept as 'nothing found here', and no task learns from it."
_NAMES = (
    "Save it again with one name for each voxel value: 'label_info' lists the segments in the order of their values, "
    'such as [{"name": "lesion", "idx": 1}, {"name": "lesion 2", "idx": 2}].'
)
_RAW = ".bin"


class LabelRefused(ValueError):
    """A label that must not be stored: what is wrong, what is expected, what to do."""


def check_label(label: Path, image: Path, info: Mapping[str, Any], *, before: Path | None = None) -> list[str]:
    """Passes if what a label holds can be told: where it is, which structures, and which voxels are which.

    Args:
        label: the file; ``.bin`` has one byte for each voxel of the image, in the order of its NIfTI file.
        image: the file of its image.
        info: what comes with the label, with ``label_info``.
        before: the label that it replaces; None where there is none.

    Returns:
        Sentences on what was decided.

    Raises:
        LabelRefused: it cannot be told.
        ImageError: a damaged file; so do OSError and MemoryShortage.
    """
    shape, onto = image_grid(image)
    if label.suffix == _RAW:
        file = LabelFile(np.fromfile(label, np.uint8).reshape(shape, order="F"), onto)
    else:
        try:
            file = read_label(label)
        except SubmittedError as error:
            raise LabelRefused(
                f"The label cannot be used: {error}. Send the segmentation, exported as a label map."
            ) from error
    values = file.segments()
    if not values:
        if before is not None and _is_drawn(before):
            raise LabelRefused(
                "The label is empty, but the saved one that it would replace is not. Draw something, or remove the "
                "saved label first (DELETE /datastore/label)."
            )
        return [NOTHING_FOUND]
    if len(values) > MAX_OBJECTS:
        raise LabelRefused(
            f"The label holds {len(values)} voxel values; at most {MAX_OBJECTS} are expected. Send a label map."
        )
    said = _require_place(label, file, label_affine(label, file.affine, image, onto), shape, onto)
    try:
        said += require_consistent(values, info, file.texts)
    except NamesError as error:
        raise LabelRefused(f"The label is refused: {error}. {_NAMES}") from error
    pairs = named_values(values, info, file.texts) or [("structure", value) for value in values]
    try:
        return said + require_filled(file.voxels, [(name, file.numbers((value,))) for name, value in pairs])
    except SliceGapsError as error:
        raise LabelRefused(f"The label is refused: {error}.") from error


def _is_drawn(label: Path) -> bool:
    try:
        return bool(read_label(label).voxels.any())
    # Broad: whatever is wrong with a label, it may hold something, and an empty one does not replace it.
    except Exception:
        return label.is_file()


def _require_place(label: Path, file: LabelFile, affine: Array, shape: tuple[int, int, int], onto: Array) -> list[str]:
    """Passes if a label lies in its image."""
    voxels = file.voxels
    if is_same_grid(voxels.shape, affine, shape, onto):
        return []
    sizes = f"The label has {_size(voxels.shape)} voxels, its image {_size(shape)}"
    if not _has_position(label):
        raise LabelRefused(
            f"{sizes}, and the label's file does not say where they lie. Save it with the position of its image, or "
            "draw on the image itself."
        )
    inside, drawn = _count(voxels, np.linalg.inv(onto) @ affine, shape)
    share = inside.sum() / drawn.sum()
    lost = [str(segment) for segment in file.segments() if not inside[list(file.numbers((segment,)))].any()]
    if lost or share < LEAST_INSIDE:
        what = f"nothing of voxel value {', '.join(lost[:8])}" if lost else f"{share:.0%} of what is drawn"
        raise LabelRefused(
            f"The label lies beside its image: {what} is in it. It belongs to another image, or lost its place in "
            "space when it was exported. Draw on the image itself."
        )
    said = []
    moved = _moved(affine, voxels.shape, onto, shape)
    if tuple(voxels.shape) != shape:
        said.append(f"{sizes}. It was placed by the positions in both files.")
    elif moved > SAME_GRID_VOXELS:
        said.append(
            f"The label has as many voxels as its image, but lies up to {moved:.1f} voxels from them. It was placed by "
            "the positions in both files; if it was drawn on this image, its position is wrong."
        )
    if share < 1:
        said.append(
            f"{math.ceil((1 - share) * 1000) / 10:g} % of what is drawn lies outside of the image, and is not learned "
            "from."
        )
    return said


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _has_position(label: Path) -> bool:
    if not label.name.lower().endswith(nifti.SUFFIXES):
        return True
    header = nib.load(label).header
    return bool(header["sform_code"] > 0 or header["qform_code"] > 0)


def _count(voxels: np.ndarray, to_image: Array, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """By value above 0, how many of its voxels lie in the image, and how many there are."""
    inside, drawn = np.zeros((2, int(voxels.max()) + 1), np.int64)
    for k in np.flatnonzero(voxels.any(axis=(0, 1))):
        ij = np.argwhere(voxels[:, :, k])
        values = voxels[ij[:, 0], ij[:, 1], k]
        ijk = transform_points(to_image, np.column_stack([ij, np.full(len(ij), k)]).astype(float))
        is_in = ((ijk > -0.5) & (ijk < np.array(shape) - 0.5)).all(axis=1)
        drawn += np.bincount(values, minlength=len(drawn))
        inside += np.bincount(values[is_in], minlength=len(inside))
    return inside, drawn


def _moved(affine: Array, own: tuple[int, ...], onto: Array, shape: tuple[int, ...]) -> float:
    """Voxels between the corners of two boxes in space, whichever corner a file counts from."""
    ours, theirs = (
        transform_points(matrix, np.array(list(product(*((0, length - 1) for length in lengths))), float))
        for matrix, lengths in ((affine, own), (onto, shape))
    )
    spacing = float(np.linalg.norm(onto[:3, :3], axis=0).min())
    return float(max(np.linalg.norm(theirs - corner, axis=1).min() for corner in ours)) / spacing
