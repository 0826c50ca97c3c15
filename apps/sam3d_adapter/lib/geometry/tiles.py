"""Further regions of interest on the grid of the first one, for clicks far from its middle."""

from collections.abc import Iterable

import numpy as np

from lib.geometry.axes import as_matrix
from lib.geometry.roi import Roi
from lib.prompts.click import Click

Offset = tuple[int, int, int]
"""Voxels of a grid along D, H, W, from the first voxel of its first ROI."""


STAYS = 3 / 8
"""Share of the ROI's side: a click that lies no farther from its middle along each axis belongs to the first ROI."""
NEAREST = 1 / 4
"""Share of the ROI's side beyond which the middle of another ROI is nearer."""


def tile_offset(first: Roi, click: Click, stays: float = STAYS) -> Offset:
    """Where the ROI of a click begins: a pure function of the first ROI and of this click.

    That is the first ROI unless the click lies near its faces or beyond. Otherwise ROIs half a side apart cover space,
    and the one is taken whose middle is nearest, so that clicks near one another share an ROI and its embedding.

    Args:
        first: ROI.
        click: also outside of it.
        stays: see `STAYS`; at `NEAREST` it is always the ROI whose middle is nearest.
    """
    size = np.array(first.size_dhw)
    from_middle = first.clicks_to_dhw([click])[0] - size // 2
    if (np.abs(from_middle) <= stays * size).all():
        return 0, 0, 0
    return as_offset(np.floor(from_middle / (size // 2) + 0.5) * (size // 2))


def as_offset(values: Iterable[float]) -> Offset:
    """An offset of three whole numbers of any type."""
    d, h, w = (int(value) for value in values)
    return d, h, w


def shifted(roi: Roi, offset: Offset, size_dhw: tuple[int, int, int] | None = None) -> Roi:
    """The ROI that begins at voxel ``offset`` of another one, of its size where no other is given."""
    shift = np.eye(4)
    shift[:3, 3] = offset
    return Roi(
        size_dhw=size_dhw or roi.size_dhw,
        spacing_mm=roi.spacing_mm,
        image_shape=roi.image_shape,
        affine=as_matrix(np.asarray(roi.affine) @ shift),
        roi_to_image=as_matrix(np.asarray(roi.roi_to_image) @ shift),
    )
