"""A box in regions of interest: the region that it asks for, and where it lies in one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.geometry.axes import Array, spacing_of
from lib.geometry.roi import MARGIN, Roi, place_roi, roi_at
from lib.prompts.box import Box
from lib.prompts.click import Click


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

    It fits where it keeps `MARGIN` from the faces. The ROI is centred on the box. A box that fits at no spacing gets
    the ROI of its clicks, at the last spacing.

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
