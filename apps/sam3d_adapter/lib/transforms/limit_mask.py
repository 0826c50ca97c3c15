"""What the user said beside the clicks, on the image's grid: where the mask may be, and what stays of another."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from lib.interaction.box import Box
from lib.interaction.roi import Roi
from lib.transforms.protected import Protected
from lib.transforms.separable import within
from lib.transforms.start_mask import StartMask

BOX_TOLERANCE = 0.1
"""Share of a box's side by which its faces may be wrong: the jitter of the boxes in training."""


class LimitMaskd(MapTransform):
    """Changes the mask ``pred`` in place, in this order; without any of the three it does nothing.

    - Where the ROI did not look, ``start_mask`` stays.
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
                keep_unseen(mask, start.mask, d["roi_geometry"])
            box: Box | None = d.get("box")
            if box is not None:
                cut_at_box(mask, box, None if start is None else start.mask)
            protected: Protected | None = d.get("protected")
            if protected is not None:
                mask[protected.mask] = 0
            for click in d["clicks"]:
                mask[click.ijk] = click.is_foreground
        return d


def keep_unseen(mask: np.ndarray, start: np.ndarray, roi: Roi) -> None:
    """Adds to a mask (i, j, k) what a mask that was started from has outside the ROI; in place."""
    seen: list[slice] = [slice(0)] * 3
    for axis, step, first, size in zip(roi.image_axes, roi.steps, roi.starts, roi.size_dhw, strict=True):
        covered = np.flatnonzero(within((np.arange(roi.image_shape[axis]) - first) / step, size))
        seen[axis] = slice(int(covered[0]), int(covered[-1]) + 1) if len(covered) else slice(0)
    answer = mask[tuple(seen)].copy()
    mask[...] = start
    mask[tuple(seen)] = answer


def cut_at_box(mask: np.ndarray, box: Box, start: np.ndarray | None) -> None:
    """Takes away what a mask (i, j, k) has outside the widened box, but for what a start mask has there; in place."""
    inside = box.widened(BOX_TOLERANCE).slices(mask.shape)
    answer = mask[inside].copy()
    if start is None:
        mask[...] = 0
    else:
        mask &= start.astype(mask.dtype, copy=False)
    mask[inside] = answer
