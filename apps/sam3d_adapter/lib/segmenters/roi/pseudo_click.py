"""Pseudo-clicks: what the network is shown as a foreground click where the user set none."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

from lib.geometry.axes import spacing_of
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.prompts.reading import BoxError
from lib.volumes.memory import reserved

_DEPTH_BYTES = 64
"""Per voxel, while its distance is worked out: indices and differences along three axes, in float64."""


def centre_of_box(box: Box, background: Sequence[Click]) -> Click:
    """The voxel in the middle of a box.

    Raises:
        BoxError: it is a background click.
    """
    if box.centre in {click.ijk for click in background}:
        raise BoxError(
            f"There is no foreground click, and the box's centre {list(box.centre)} is a background click. Click on "
            "the structure."
        )
    return Click(box.centre)


def deepest(mask: NDArray[np.bool_], affine: ArrayLike, clicks: Sequence[Click], reach_mm: float) -> Click | None:
    """The deepest voxel of a mask near the first click; None if the mask has none there.

    Args:
        mask: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
        clicks: background clicks, which count as outside the mask.
        reach_mm: how far from the first click it may lie along each axis, mm.

    Raises:
        MemoryShortage: so many voxels are as near as that.
    """
    spacing = spacing_of(affine)
    reach = np.maximum(1, np.floor(reach_mm / spacing)).astype(int)
    low = np.maximum(np.array(clicks[0].ijk) - reach, 0)
    near = mask[tuple(slice(a, at + r + 1) for a, at, r in zip(low, clicks[0].ijk, reach, strict=True))].copy()
    for click in clicks:
        at = tuple((np.array(click.ijk) - low).tolist())
        if min(at) >= 0 and all(index < length for index, length in zip(at, near.shape, strict=True)):
            near[at] = False
    if not near.any():
        return None
    # The cut of the neighbourhood is no border of the mask.
    with reserved("of this request", near.size * _DEPTH_BYTES):
        depth = distance_transform_edt(np.pad(near, 1, mode="edge"), sampling=spacing)[1:-1, 1:-1, 1:-1]
        i, j, k = (np.unravel_index(int(np.argmax(np.where(near, depth, -1))), near.shape) + low).tolist()
    return Click((i, j, k))
