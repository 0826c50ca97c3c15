"""A box of the user around the structure: strict reading, the ROI it asks for, and the box in that ROI."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.geometry.axes import Array, spacing_of
from lib.geometry.roi import MARGIN, Roi, place_roi, roi_at
from lib.prompts.click import Click, ClickError, read_list, short

_FORMS = (
    "two opposite corner voxels [[i, j, k], [i, j, k]], or [i, i, j, j, k, k] as 3D Slicer sends it, in either order"
)


class BoxError(ValueError):
    """A box that cannot be used: what was sent, what is expected, what to do."""


@dataclass(frozen=True)
class Box:
    """A box along the axes of an image.

    Attributes:
        first: voxel [i, j, k] of the corner of lowest indices.
        last: voxel of the opposite corner; both belong to the box.
    """

    first: tuple[int, int, int]
    last: tuple[int, int, int]

    @property
    def centre(self) -> tuple[int, int, int]:
        """The voxel in the middle, the lower one of two."""
        i, j, k = ((low + high) // 2 for low, high in zip(self.first, self.last, strict=True))
        return i, j, k

    def holds(self, click: Click) -> bool:
        """Whether a click lies in the box."""
        return all(low <= at <= high for low, at, high in zip(self.first, click.ijk, self.last, strict=True))

    def widened(self, share: float) -> "Box":
        """With each face moved outwards by a share of the side, at least by one voxel; it may leave the image."""
        first, last = np.array(self.first), np.array(self.last)
        more = np.maximum(1, np.ceil(share * (last - first + 1))).astype(int)
        (a, b, c), (d, e, f) = (first - more).tolist(), (last + more).tolist()
        return Box((a, b, c), (d, e, f))

    def slices(self, shape: Sequence[int]) -> tuple[slice, slice, slice]:
        """Of an array of that shape."""
        i, j, k = (
            slice(max(low, 0), min(high + 1, length))
            for low, high, length in zip(self.first, self.last, shape, strict=True)
        )
        return i, j, k


def read_box(value: Any, image_shape: Sequence[int]) -> Box | None:
    """Checks the box of a request.

    Args:
        value: two corners, three pairs or six numbers, as such or as JSON text; None or empty where there is none.
        image_shape: voxels along i, j, k.

    Returns:
        The part of it in the image.

    Raises:
        BoxError: other forms or numbers, no extent along an axis, or no part of it in the image.
    """
    pairs = _read_pairs(value)
    if pairs is None:
        return None
    shape = [int(length) for length in image_shape]
    sizes = " x ".join(map(str, shape))
    low, high = ([end(pair) for pair in pairs] for end in (min, max))
    for axis, a, b, length in zip("ijk", low, high, shape, strict=True):
        if a == b:
            raise BoxError(
                f"The box is {short(value)}, without extent along {axis} (both corners at {a}); at least 2 voxels "
                "along each axis are expected. Draw it in the other views too, around the whole structure."
            )
        if min(b, length - 1) <= max(a, 0):
            raise BoxError(
                f"The box is {short(value)}, along {axis} outside the image of {sizes} voxels (i, j, k, counted from "
                "0). If its corners are in mm, convert them with the inverse of the image's affine, then round."
            )
    first, last = [max(a, 0) for a in low], [min(b, length - 1) for b, length in zip(high, shape, strict=True)]
    return Box((first[0], first[1], first[2]), (last[0], last[1], last[2]))


def place_roi_on_box(
    box: Box,
    clicks: Sequence[Click],
    image_shape: Sequence[int],
    image_affine: ArrayLike,
    *,
    size: int,
    spacings_mm: Sequence[float],
    roi_axes: str = "SAR",
) -> Roi:
    """The ROI around a box, at the first spacing at which the box fits into it.

    It fits where it keeps `MARGIN` from the faces. The ROI is centred on the box; one that fits nowhere is looked at
    from its clicks, at the last spacing.

    Args:
        box: of the image.
        clicks: at least one foreground click; all of these in the box.
        image_shape: voxels along i, j, k.
        image_affine: (4, 4), voxel index to RAS mm.
        size: voxels along each side of the ROI.
        spacings_mm: ascending, mm.
        roi_axes: see `place_roi`.

    Raises:
        ClickError: clicks farther apart than the widest ROI.
    """
    first, last = np.array(box.first), np.array(box.last)
    sides_mm = (last - first + 1) * spacing_of(image_affine)
    for spacing_mm in spacings_mm:
        if sides_mm.max() <= (1 - 2 * MARGIN) * size * spacing_mm:
            return roi_at((first + last) / 2, image_shape, image_affine, size, spacing_mm, roi_axes)
    return place_roi(clicks, image_shape, image_affine, size=size, spacing_mm=spacings_mm[-1], roi_axes=roi_axes)


def box_in_roi(box: Box, roi: Roi) -> Array:
    """(2, 3) first and last voxel of the box, ROI indices (d, h, w), fractional, clipped to the ROI.

    A box covers its voxels whole: from half a voxel before the centre of the first to half a voxel after the last.
    """
    faces = np.sort(roi.ijk_to_dhw([np.array(box.first) - 0.5, np.array(box.last) + 0.5]), axis=0)
    middle = faces.mean(axis=0)
    first, last = np.minimum(faces[0] + 0.5, middle), np.maximum(faces[1] - 0.5, middle)
    return np.clip([first, last], 0, np.array(roi.size_dhw) - 1.0)


def ellipsoid_in_roi(box: Box, roi: Roi) -> NDArray[np.bool_]:
    """(D, H, W) voxels of an ROI in the ellipsoid that touches the faces of a box."""
    faces = np.sort(roi.ijk_to_dhw([np.array(box.first) - 0.5, np.array(box.last) + 0.5]), axis=0)
    axes = np.ogrid[tuple(slice(n) for n in roi.size_dhw)]
    squared = sum(
        ((axis - (low + high) / 2) / ((high - low) / 2)) ** 2 for axis, low, high in zip(axes, *faces, strict=True)
    )
    return np.asarray(squared <= 1)


def _read_pairs(value: Any) -> list[tuple[int, int]] | None:
    """The two ends along i, j and k, unsorted."""
    try:
        read = read_list("roi", value)
    except ClickError as error:
        raise _form_error(value) from error
    if not read:
        return None
    lengths = [len(part) if isinstance(part, list | tuple) else 0 for part in read]
    if lengths == [3, 3]:
        ends = list(zip(*read, strict=True))
    elif lengths == [2, 2, 2]:
        ends = [tuple(pair) for pair in read]
    elif lengths == [0] * 6:
        ends = [(read[0], read[1]), (read[2], read[3]), (read[4], read[5])]
    else:
        raise _form_error(value)
    return [(_whole(a, value), _whole(b, value)) for a, b in ends]


def _whole(number: Any, value: Any) -> int:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not -math.inf < number < math.inf or number != int(number):
        raise BoxError(
            f"The box is {short(value)}, and {short(number)} in it is no whole number; voxel indices are expected: "
            f"{_FORMS}."
        )
    return int(number)


def _form_error(value: Any) -> BoxError:
    return BoxError(f"The box is {short(value)}; {_FORMS}, are expected. Send whole voxel indices.")
