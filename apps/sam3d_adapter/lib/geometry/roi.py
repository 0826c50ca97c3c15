"""The region of interest: a cube of voxels that the model sees, placed by the clicks."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.geometry.axes import Array, Matrix, as_matrix, image_directions, reorder, spacing_of, transform_points
from lib.prompts.click import Click, on_structure
from lib.prompts.reading import ClickError

MARGIN = 1 / 16
"""Share of the ROI's side that a click must keep from its faces for the ROI to stay on the first click."""


@dataclass(frozen=True)
class Roi:
    """A grid of voxels, indices (d, h, w), whose axes run parallel to the axes of the image.

    Made from a request alone, so that equal requests give equal ROIs and equal keys.

    Attributes:
        size_dhw: voxels along each axis.
        spacing_mm: isotropic voxel spacing, mm.
        image_shape: voxels of the image along i, j, k.
        affine: (4, 4), ROI index (d, h, w) to RAS mm.
        roi_to_image: (4, 4), ROI index (d, h, w) to image index (i, j, k): a scaled, signed permutation and a shift.
    """

    size_dhw: tuple[int, int, int]
    spacing_mm: float
    image_shape: tuple[int, int, int]
    affine: Matrix
    roi_to_image: Matrix

    @property
    def image_axes(self) -> tuple[int, int, int]:
        """The image axis that D, H, W run along."""
        d, h, w = np.abs(np.asarray(self.roi_to_image)[:3, :3]).argmax(axis=0)
        return int(d), int(h), int(w)

    @property
    def steps(self) -> Array:
        """(3,) image voxels, signed, from one ROI voxel to the next along D, H, W."""
        return np.asarray(self.roi_to_image)[list(self.image_axes), [0, 1, 2]]

    @property
    def starts(self) -> Array:
        """(3,) image index of ROI index 0 along D, H, W, each on its own image axis."""
        return np.asarray(self.roi_to_image)[list(self.image_axes), 3]

    def key(self) -> Hashable:
        """Equal for equal ROIs, across requests and processes."""
        return (self.size_dhw, self.spacing_mm, self.image_shape, self.affine, self.roi_to_image)

    def holds(self, click: Click) -> bool:
        """Whether the click lies in one of the ROI's voxels."""
        dhw = self.clicks_to_dhw([click])[0]
        return bool(((dhw >= -0.5) & (dhw <= np.array(self.size_dhw) - 0.5)).all())

    def clicks_to_dhw(self, clicks: Sequence[Click]) -> Array:
        """(N, 3) fractional ROI indices of the clicks, order D, H, W."""
        return self.ijk_to_dhw(_positions(clicks))

    def ijk_to_dhw(self, ijk: ArrayLike) -> Array:
        """(N, 3) image indices to (N, 3) fractional ROI indices."""
        points = np.asarray(ijk, np.float64).reshape(-1, 3)
        return (points[:, list(self.image_axes)] - self.starts) / self.steps

    def dhw_to_ijk(self, dhw: ArrayLike) -> Array:
        """(N, 3) ROI indices to (N, 3) fractional image indices."""
        return transform_points(self.roi_to_image, dhw)

    def dhw_to_mm(self, dhw: ArrayLike) -> Array:
        """(N, 3) ROI indices to (N, 3) RAS mm."""
        return transform_points(self.affine, dhw)

    def image_positions(self) -> tuple[Array, Array, Array]:
        """Image index of each ROI voxel along D, H and W, each on its own image axis."""
        d, h, w = (
            start + step * np.arange(n) for start, step, n in zip(self.starts, self.steps, self.size_dhw, strict=True)
        )
        return d, h, w


def place_roi(
    clicks: Sequence[Click],
    image_shape: Sequence[int],
    image_affine: ArrayLike,
    *,
    size: int,
    spacing_mm: float,
    roi_axes: str = "SAR",
) -> Roi:
    """The ROI of a set of clicks: a pure function of the request, with no memory of earlier ones.

    It is centred on the first foreground click and stays there while every foreground click lies in it with a margin,
    so that its embedding serves all of them; otherwise on the middle of the clicks' bounding box, as the reference does
    at test time. The centre lies on ROI index ``size // 2``.

    Args:
        clicks: at least one foreground click; background clicks do not move the ROI.
        image_shape: voxels along i, j, k.
        image_affine: (4, 4), voxel index to RAS mm.
        size: voxels along each side.
        spacing_mm: isotropic spacing, mm.
        roi_axes: directions in which the ROI indices d, h, w grow; the closest image axes are taken.

    Raises:
        ClickError: no foreground click, or clicks farther apart than the ROI is wide.
        AxesError: letters or an affine that describe no frame in space.
    """
    positions = _positions(on_structure(clicks))
    if not len(positions):
        raise ClickError("An ROI needs at least one foreground click; got none. Click on the structure.")
    order, steps = _frame(image_affine, spacing_mm, roi_axes)

    margin = MARGIN * size
    centre = positions[0].astype(np.float64)
    dhw = (positions - centre)[:, order] / steps + size // 2
    if ((dhw < margin) | (dhw > size - 1 - margin)).any():
        centre = (positions.min(axis=0) + positions.max(axis=0)) / 2
        dhw = (positions - centre)[:, order] / steps + size // 2
    if ((dhw < -0.5) | (dhw > size - 0.5)).any():
        apart = np.ptp(dhw, axis=0).max() * spacing_mm
        raise ClickError(
            f"The foreground clicks lie {apart:.0f} mm apart along one axis; the region that is segmented at once is "
            f"{size * spacing_mm:.0f} mm wide. Remove the clicks at one end and segment the structure in parts."
        )

    return roi_at(centre, image_shape, image_affine, size, spacing_mm, roi_axes)


def roi_at(
    centre_ijk: ArrayLike,
    image_shape: Sequence[int],
    image_affine: ArrayLike,
    size: int,
    spacing_mm: float,
    roi_axes: str = "SAR",
) -> Roi:
    """The ROI whose index ``size // 2`` lies on a place.

    Args:
        centre_ijk: (3,) image index, may be fractional.
        image_shape: voxels along i, j, k.
        image_affine: (4, 4), voxel index to RAS mm.
        size: voxels along each side.
        spacing_mm: isotropic spacing, mm.
        roi_axes: see `place_roi`.

    Raises:
        AxesError: letters or an affine that describe no frame in space.
    """
    order, steps = _frame(image_affine, spacing_mm, roi_axes)
    centre = np.asarray(centre_ijk, np.float64)
    roi_to_image = np.zeros((4, 4))
    roi_to_image[3, 3] = 1
    roi_to_image[order, [0, 1, 2]] = steps
    roi_to_image[order, 3] = centre[order] - steps * (size // 2)
    i, j, k = (int(length) for length in image_shape)
    return Roi(
        size_dhw=(size, size, size),
        spacing_mm=float(spacing_mm),
        image_shape=(i, j, k),
        affine=as_matrix(np.asarray(image_affine, np.float64) @ roi_to_image),
        roi_to_image=as_matrix(roi_to_image),
    )


def _frame(image_affine: ArrayLike, spacing_mm: float, roi_axes: str) -> tuple[list[int], Array]:
    """The image axes that D, H, W run along, and the image voxels, signed, from one ROI voxel to the next."""
    axes, signs = reorder(image_directions(image_affine), roi_axes)
    order = list(axes)
    return order, np.asarray(signs) * spacing_mm / spacing_of(image_affine)[order]


def _positions(clicks: Sequence[Click]) -> NDArray[np.int64]:
    return np.array([click.ijk for click in clicks], dtype=np.int64).reshape(-1, 3)
