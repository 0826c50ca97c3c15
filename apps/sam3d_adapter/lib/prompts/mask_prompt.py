"""A mask that the user starts from: read, shown to the network as its previous answer, kept where nothing was seen."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from lib.geometry.axes import spacing_of
from lib.geometry.resample import resample_roi
from lib.geometry.roi import Roi
from lib.prompts.click import Click, on_structure
from lib.volumes.label_map import (
    LabelMapError,
    Mask,
    label_map_file,
    load_label_map,
    on_image_grid,
    only_value,
    require_value,
    value_of_name,
)
from lib.volumes.mask_hash import mask_hash
from lib.volumes.read import VolumeCache

LOGIT = 4.0
"""Of a voxel of the start mask: the network reads it as a probability of 98 %."""
NOT_READ = "The weights of this preset read no earlier mask: the mask to start from had no effect."
PLACE_TAKEN = (
    "No foreground click: voxel {ijk} of the mask to start from was shown to the network as one, and stays in the mask "
    "only if the network leaves it there."
)


@dataclass(frozen=True, eq=False)
class StartMask:
    """A mask on the image's grid.

    Attributes:
        mask: (i, j, k).
        source: ``"label"``, saved on the server, or ``"upload"``.
        value: of the label map.
        hash: as the ``mask_hash`` of an answer.
    """

    mask: Mask
    source: str
    value: int
    hash: str

    @property
    def centre(self) -> tuple[float, float, float]:
        """Index (i, j, k), may be fractional: the middle of the mask's bounding box, of the image where it is empty."""
        middle = []
        for axis in range(3):
            held = np.flatnonzero(self.mask.any(axis=tuple(other for other in range(3) if other != axis)))
            low, high = (held[0], held[-1]) if len(held) else (0, self.mask.shape[axis] - 1)
            middle.append(float(low + high) / 2)
        return middle[0], middle[1], middle[2]

    def logits(self, roi: Roi) -> Tensor:
        """(D, H, W) foreground logit on an ROI, from -`LOGIT` to `LOGIT`; outside the image it is background."""
        share, _ = resample_roi(torch.from_numpy(self.mask.view(np.uint8)), roi)
        return LOGIT * (2 * share[0] - 1)


class ReadStartMaskd(MapTransform):
    """Replaces ``start_from`` by ``start_mask``, a `StartMask` or None.

    Where all clicks are background ones, it adds ``implied_click``: the place near the first of them that is deepest in
    the mask, counting this click as outside.

    Args:
        label: name of the structure.
        reach_mm: how far that place may be from the click along each axis, so that one ROI holds both.
        keys: of the source.
        cache: of volumes; None to read the file every time.
        is_read: whether the network reads its previous answer.
    """

    def __init__(
        self,
        label: str,
        reach_mm: float,
        keys: KeysCollection = "start_from",
        *,
        cache: VolumeCache | None = None,
        is_read: bool,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self._label, self._reach_mm, self._cache, self._is_read = label, reach_mm, cache, is_read

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raises LabelMapError where there is no such mask, or no click to correct it by."""
        d = dict(data)
        for key in self.key_iterator(d):
            source = d.pop(key)
            d["start_mask"] = None
            if source == "none":
                continue
            if not self._is_read:
                if not on_structure(d["clicks"]) and d.get("box") is None:
                    raise LabelMapError(f"{NOT_READ} A foreground click or a box is needed as well; got neither.")
                d["warnings"] = [*d["warnings"], NOT_READ]
                continue
            if not d["clicks"]:
                raise LabelMapError(
                    "A mask to start from came without a click; at least one click that corrects it is expected, in "
                    "'foreground' where something is missing, in 'background' where there is too much."
                )
            start = d["start_mask"] = self._read(d, source)
            if not on_structure(d["clicks"]):
                click = deepest(start.mask, d["volume"].affine, d["clicks"][:1], self._reach_mm)
                if click is None:
                    raise LabelMapError(
                        f"Background click {list(d['clicks'][0].ijk)} is more than {self._reach_mm:.0f} mm from the "
                        "mask to start from, which it cannot correct there. Click where the mask is wrong."
                    )
                d["implied_click"] = click
                d["warnings"] = [*d["warnings"], PLACE_TAKEN.format(ijk=list(click.ijk))]
        return d

    def _read(self, data: Mapping[Hashable, Any], source: str) -> StartMask:
        path, names = label_map_file(data, source)
        labels = load_label_map(path, self._cache)
        value = data.get("start_value")
        if value is None:
            value = value_of_name(labels, names, self._label) or only_value(labels, "start_value")
        require_value(labels, value, "start_value")
        mask = on_image_grid(labels.voxels.numpy() == value, labels.affine, data["volume"])
        return StartMask(mask, source, value, mask_hash(mask))


def deepest(mask: Mask, affine: np.ndarray, clicks: Sequence[Click], reach_mm: float) -> Click | None:
    """The voxel of a mask deepest in it, at most so far from the first click along each axis; None if none is there.

    Args:
        mask: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
        clicks: background clicks, which count as outside the mask.
        reach_mm: along each axis.
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
    depth = distance_transform_edt(np.pad(near, 1, mode="edge"), sampling=spacing)[1:-1, 1:-1, 1:-1]
    i, j, k = (np.unravel_index(int(np.argmax(np.where(near, depth, -1))), near.shape) + low).tolist()
    return Click((i, j, k))
