"""A label map beside an image: which of its values is meant, and where that is on the image's grid."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lib.geometry.axes import Array, transform_points
from lib.volumes.label_file import NotALabelError, read_label_file
from lib.volumes.label_grid import is_same_grid, on_grid
from lib.volumes.read import VolumeCache
from lib.volumes.volume import ImageError, Volume, make_volume
from lib.volumes.whole_numbers import MAX_VALUE

LEAST_INSIDE = 0.9
"""Share of a mask's voxels that have to lie in the image; fewer, and it is another image's."""
_MAX_NAMED = 10

Mask = NDArray[np.bool_]


class LabelMapError(ValueError):
    """A label map that cannot be used: what was sent, what is expected, what to do."""


def load_label_map(path: Path, cache: VolumeCache | None) -> Volume:
    """Reads a label map.

    Raises:
        LabelMapError: a file that cannot be read, or values that are not whole numbers from 0 to `MAX_VALUE`.
    """
    try:
        return cache.get(path, _read) if cache is not None else _read(path)
    except FileNotFoundError as error:
        raise LabelMapError("The label map does not exist on this server any more. Save or send it again.") from error
    except NotALabelError as error:
        raise LabelMapError(
            f"The label map holds values that are not whole numbers from 0 to {MAX_VALUE}; it may be an image. Send "
            "the segmentation, exported as a label map."
        ) from error
    except ImageError as error:
        raise LabelMapError(f"The label map cannot be used. {error}") from error


def _read(path: Path) -> Volume:
    file = read_label_file(path)
    volume = make_volume(file.voxels, file.affine, path.name)
    if file.overlaps is None:
        return volume
    # Images of equal content share one volume; another file may have the same voxels and other segments.
    key = hashlib.sha256(f"{volume.content_key}{sorted(file.overlaps.items())}".encode()).hexdigest()
    return replace(volume, overlaps=file.overlaps, content_key=key)


def values_of(labels: Volume) -> tuple[int, ...]:
    """The values above 0 that occur, ascending; of segments that overlap, their numbers."""
    if labels.overlaps is not None:
        return tuple(sorted(value for value, numbers in labels.overlaps.items() if numbers))
    return tuple(labels.statistic("values of a label map", _find_values))


def mask_of(labels: Volume, value: int) -> Mask:
    """Where a value is; of segments that overlap, where one is."""
    voxels = labels.voxels.numpy()
    if labels.overlaps is None:
        return np.asarray(voxels == value)
    return np.isin(voxels, labels.overlaps.get(value, ()))


def mask_of_others(labels: Volume, value: int) -> Mask:
    """Where a value above 0 is other than this one; of segments that overlap, where another one is."""
    voxels = labels.voxels.numpy()
    if labels.overlaps is None:
        return np.asarray((voxels != 0) & (voxels != value))
    return np.isin(voxels, [number for key, numbers in labels.overlaps.items() if key != value for number in numbers])


def _find_values(voxels: Tensor) -> list[int]:
    array, seen = voxels.numpy(), np.zeros(MAX_VALUE + 1, dtype=bool)
    # Slice by slice: a table of all values at once would take eight bytes a voxel.
    for k in range(array.shape[2]):
        seen[array[:, :, k].astype(np.uint16)] = True
    return [int(value) for value in np.flatnonzero(seen) if value]


def value_of_name(labels: Volume, names: Sequence[str], label: str) -> int | None:
    """The value of a segment by its name, or None where that cannot be known.

    Viewers number segments each in their own way: what holds is that the names are in the order of the values.

    Args:
        labels: the label map.
        names: of the segments that were saved, in their order.
        label: wanted.
    """
    values = values_of(labels)
    wanted = label.strip().lower()
    ranks = [rank for rank, name in enumerate(names) if name.strip().lower() == wanted]
    return values[ranks[0]] if len(ranks) == 1 and len(names) == len(values) else None


def require_value(labels: Volume, value: int, key: str) -> None:
    """Passes if a value occurs.

    Raises:
        LabelMapError: it does not.
    """
    values = values_of(labels)
    if value not in values:
        raise LabelMapError(f"{key} is {value}, but the label map holds {_named(values)}. Choose one of these.")


def only_value(labels: Volume, key: str) -> int:
    """The one value of a binary mask.

    Raises:
        LabelMapError: there are several, or none.
    """
    values = values_of(labels)
    if not values:
        raise LabelMapError("The label map is empty. Send one in which the structure is drawn, or start from clicks.")
    if len(values) > 1:
        raise LabelMapError(f"The label map holds {_named(values)}; say with '{key}' which of them is the structure.")
    return values[0]


def on_image_grid(mask: Mask, affine: ArrayLike, image: Volume, *, least_inside: float = LEAST_INSIDE) -> Mask:
    """A mask of any grid, on that of an image: of each image voxel the value at its centre.

    Args:
        mask: (i, j, k) of its own grid.
        affine: (4, 4), its voxel index to RAS mm.
        image: whose grid.
        least_inside: share of the mask that has to lie in the image.

    Raises:
        LabelMapError: less of it does: the mask belongs to another image.
    """
    i, j, k = image.voxels.shape
    affine, shape = np.asarray(affine, np.float64), (i, j, k)
    if is_same_grid(mask.shape, affine, shape, image.affine):
        return mask
    _require_inside(mask, np.linalg.inv(image.affine) @ affine, shape, least_inside)
    placed: Mask = on_grid(mask.view(np.uint8), affine, shape, image.affine).view(bool)
    return placed


def _require_inside(mask: Mask, to_image: Array, shape: Sequence[int], least: float) -> None:
    voxels = inside = 0
    # Slice by slice: the indices of a voxel take 24 bytes, and as many once more on the image's grid.
    for k in range(mask.shape[2]):
        ij = np.argwhere(mask[:, :, k])
        ijk = transform_points(to_image, np.column_stack([ij, np.full(len(ij), k)]))
        voxels += len(ij)
        inside += int(((ijk > -0.5) & (ijk < np.array(shape) - 0.5)).all(axis=1).sum())
    if not voxels:
        return
    share = inside / voxels
    if share < least or share == 0:
        raise LabelMapError(
            f"{share:.0%} of the label map's structure lies in the image; {least:.0%} or more are expected. It belongs "
            "to another image, or lost its place in space when it was exported: send one of this very image."
        )


def _named(values: Sequence[int]) -> str:
    if not values:
        return "no value above 0"
    more = f" and {len(values) - _MAX_NAMED} more" if len(values) > _MAX_NAMED else ""
    return f"the values {', '.join(map(str, values[:_MAX_NAMED]))}{more}"
