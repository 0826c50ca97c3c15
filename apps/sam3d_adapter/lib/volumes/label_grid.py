"""A label in space -> the same label on the voxels of its image."""

from itertools import product
from pathlib import Path

import numpy as np
from scipy import ndimage

from lib.geometry.axes import Array, transform_points
from lib.volumes import nifti
from lib.volumes.read import read_array

SAME_GRID_VOXELS = 0.05
"""Voxels by which two grids may differ, at the corners, and still be one: affines are often kept as float32."""


def image_grid(path: Path) -> tuple[tuple[int, int, int], Array]:
    """Voxels along i, j, k, and the (4, 4) affine to RAS mm; of a NIfTI file the header alone is read.

    Raises:
        ImageError: a file that cannot be read; so does MemoryShortage.
        OSError: there is no such file.
    """
    if path.name.lower().endswith(nifti.SUFFIXES):
        shape, affine = nifti.read_grid(path)
    else:
        array, affine = read_array(path)
        shape = array.shape
    return (int(shape[0]), int(shape[1]), int(shape[2])), np.asarray(affine, np.float64)


def label_affine(label: Path, affine: Array, image: Path, onto: Array) -> Array:
    """(4, 4) of a label's file, voxel index to RAS mm: that of its image where it is on the image's voxels.

    Args:
        label: the file.
        affine: as read from it.
        image: the image's file.
        onto: (4, 4), of the image.

    Raises:
        ImageError: a file that cannot be read.
        OSError: there is no such file.
    """
    return onto if nifti.is_on_same_voxels(label, image) else affine


def on_grid(labels: np.ndarray, affine: Array, shape: tuple[int, int, int], onto: Array) -> np.ndarray:
    """The nearest voxels of a label at the voxels of an image; 0 where the label does not reach.

    Args:
        labels: (i, j, k), any integers.
        affine: (4, 4), of the label, voxel index to RAS mm.
        shape: voxels of the image.
        onto: (4, 4), of the image.

    Returns:
        ``shape``, in the label's type; the label itself where the grids are one.
    """
    if is_same_grid(labels.shape, affine, shape, onto):
        return labels
    to_label = np.linalg.inv(affine) @ onto
    placed = np.zeros(shape, labels.dtype, order="F")
    box = box_of(labels)
    if box is None:
        return placed
    # Where the box lies on the image's grid: the rest stays 0, and need not be looked at.
    edges = np.array(list(product(*((part.start - 0.5, part.stop - 0.5) for part in box))))
    reached = transform_points(np.linalg.inv(to_label), edges)
    low = np.clip(np.floor(reached.min(0)).astype(int), 0, shape)
    high = np.clip(np.ceil(reached.max(0)).astype(int) + 1, low, shape)
    region = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    if placed[region].size:
        linear, offset = to_label[:3, :3], to_label[:3, 3]
        # "grid-constant": within the outermost half voxel the nearest voxel is still the outermost one.
        placed[region] = ndimage.affine_transform(
            labels[box],
            linear,
            offset + linear @ low - [part.start for part in box],
            output_shape=placed[region].shape,
            order=0,
            mode="grid-constant",
            cval=0,
        )
    return placed


def box_of(labels: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest box with all that is not 0; None where all is."""
    planes = [labels.any(axis=tuple(other for other in range(3) if other != axis)).nonzero()[0] for axis in range(3)]
    if not len(planes[0]):
        return None
    i, j, k = (slice(int(found[0]), int(found[-1]) + 1) for found in planes)
    return i, j, k


def is_same_grid(one: tuple[int, ...], affine: Array, other: tuple[int, ...], onto: Array) -> bool:
    """Whether two grids are one: equal shapes, and corners that differ by less than `SAME_GRID_VOXELS`.

    Args:
        one: voxels of the first.
        affine: (4, 4), of the first, voxel index to RAS mm.
        other: voxels of the second.
        onto: (4, 4), of the second.
    """
    if one != other:
        return False
    corners = np.array(list(product(*((0, length - 1) for length in other))), np.float64)
    moved = transform_points(np.linalg.inv(affine) @ onto, corners)
    return bool(np.abs(moved - corners).max() < SAME_GRID_VOXELS)
