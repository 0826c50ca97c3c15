"""Clicks -> the ROI's place."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from lib.interaction.roi import place_roi


class PlaceRoid(MapTransform):
    """Adds ``roi_geometry``, the ``Roi`` of ``clicks`` in ``volume``.

    Args:
        keys: of the clicks.
        size: voxels along each side.
        spacing_mm: isotropic spacing, mm.
        roi_axes: directions in which the ROI indices D, H, W grow.
    """

    def __init__(self, keys: KeysCollection = "clicks", *, size: int, spacing_mm: float, roi_axes: str = "SAR") -> None:
        super().__init__(keys)
        self._size, self._spacing_mm, self._roi_axes = size, spacing_mm, roi_axes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raises ClickError where the clicks are farther apart than an ROI is wide."""
        d = dict(data)
        volume = d["volume"]
        for key in self.key_iterator(d):
            d["roi_geometry"] = place_roi(
                d[key],
                volume.voxels.shape,
                volume.affine,
                size=self._size,
                spacing_mm=self._spacing_mm,
                roi_axes=self._roi_axes,
            )
        return d
