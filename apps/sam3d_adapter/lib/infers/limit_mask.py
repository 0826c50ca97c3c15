"""What the user said beside the clicks, on the image's grid: where the mask may not be."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from lib.infers.protected import Protected
from lib.prompts.box import Box
from lib.prompts.mask_prompt import StartMask

BOX_TOLERANCE = 0.1
"""Share of a box's side by which its faces may be wrong: the jitter of the boxes in training."""


class LimitMaskd(MapTransform):
    """Changes the mask ``pred`` in place, in this order; without a box and protected segments it does nothing.

    - Outside ``box``, widened by `BOX_TOLERANCE`, nothing is added to ``start_mask``; without one, nothing is there.
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
            box: Box | None = d.get("box")
            if box is not None:
                cut_at_box(mask, box, None if start is None else start.mask)
            protected: Protected | None = d.get("protected")
            if protected is not None:
                mask[protected.mask] = 0
            for click in d["clicks"]:
                mask[click.ijk] = click.is_foreground
        return d


def cut_at_box(mask: np.ndarray, box: Box, start: np.ndarray | None) -> None:
    """Takes away what a mask (i, j, k) has outside the widened box, but for what a start mask has there; in place."""
    inside = box.widened(BOX_TOLERANCE).slices(mask.shape)
    answer = mask[inside].copy()
    if start is None:
        mask[...] = 0
    else:
        mask &= start.astype(mask.dtype, copy=False)
    mask[inside] = answer
