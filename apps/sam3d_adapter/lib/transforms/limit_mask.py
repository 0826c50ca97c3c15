"""What the user said beside the clicks, on the image's grid: where the mask may be, and what stays of another."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from scipy.ndimage import label

from lib.interaction.axes import spacing_of
from lib.interaction.box import Box
from lib.interaction.click import Click
from lib.transforms.protected import Protected
from lib.transforms.start_mask import StartMask

BOX_TOLERANCE = 0.1
"""Share of a box's side by which its faces may be wrong: the jitter of the boxes in training."""

REACH_FACTOR = 2.0
REACH_MM = (5.0, 30.0)
"""Least and most of what one click changes around it in a mask that was started from."""


class LimitMaskd(MapTransform):
    """Changes the mask ``pred`` in place, in this order; without any of the three it does nothing.

    - Of ``start_mask`` only that changes which a click asks for, see `changed_by_clicks`.
    - Outside ``box``, widened by `BOX_TOLERANCE`, nothing is added to the mask that was started from.
    - Voxels of ``protected`` are left out.

    Each voxel of ``clicks`` is what the click says, in the end as before.
    """

    def __init__(self, keys: KeysCollection = "pred") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            mask = d[key].numpy()
            start: StartMask | None = d.get("start_mask")
            if start is not None:
                changed_by_clicks(mask, start.mask, d["volume"].affine, d["clicks"])
            box: Box | None = d.get("box")
            if box is not None:
                cut_at_box(mask, box, None if start is None else start.mask)
            protected: Protected | None = d.get("protected")
            if protected is not None:
                mask[protected.mask] = 0
            for click in d["clicks"]:
                mask[click.ijk] = click.is_foreground
        return d


def changed_by_clicks(mask: np.ndarray, start: np.ndarray, affine: np.ndarray, clicks: Sequence[Click]) -> None:
    """Takes over from an answer only what its clicks ask for; in place.

    A foreground click adds, a background click takes away: the voxels around it that the answer changes so, connected
    with it, no farther than `REACH_FACTOR` times its distance to the border of the mask that was started from, within
    `REACH_MM`. All else is as it was, to the voxel; also where a click agrees with that mask, for it asks for nothing.

    Args:
        mask: (i, j, k), the answer.
        start: (i, j, k) bool.
        affine: (4, 4), voxel index to RAS mm.
        clicks: of the user.
    """
    spacing = spacing_of(affine)
    radius = np.ceil(REACH_MM[1] / spacing).astype(int)
    changes = []
    for click in clicks:
        if bool(start[click.ijk]) == click.is_foreground:
            continue
        at = np.array(click.ijk)
        low = np.maximum(at - radius, 0)
        near = tuple(slice(a, b + r + 1) for a, b, r in zip(low, at, radius, strict=True))
        before, answer = start[near], mask[near] != 0
        answer[tuple(at - low)] = click.is_foreground
        axes = np.ogrid[tuple(slice(n) for n in before.shape)]
        distance = np.sqrt(
            sum(((axis - place) * mm) ** 2 for axis, place, mm in zip(axes, at - low, spacing, strict=True))
        )
        border = distance[before == click.is_foreground]
        to_border = float(border.min()) if border.size else REACH_MM[1]
        reach = np.clip(REACH_FACTOR * to_border, *REACH_MM)
        pieces, _ = label((answer == click.is_foreground) & (before != click.is_foreground) & (distance <= reach))
        changes.append((near, pieces == pieces[tuple(at - low)], click.is_foreground))
    mask[...] = start
    for near, piece, is_foreground in changes:
        mask[near][piece] = is_foreground


def cut_at_box(mask: np.ndarray, box: Box, start: np.ndarray | None) -> None:
    """Takes away what a mask (i, j, k) has outside the widened box, but for what a start mask has there; in place."""
    inside = box.widened(BOX_TOLERANCE).slices(mask.shape)
    answer = mask[inside].copy()
    if start is None:
        mask[...] = 0
    else:
        mask &= start.astype(mask.dtype, copy=False)
    mask[inside] = answer
