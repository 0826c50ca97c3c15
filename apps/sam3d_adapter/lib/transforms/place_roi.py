"""Clicks, and a box where there is one -> the ROI's place."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from lib.interaction.box import Box, place_roi_on_box
from lib.interaction.click import Click, ClickError
from lib.interaction.roi import Roi, place_roi
from lib.transforms.volume import Volume


class PlaceRoid(MapTransform):
    """Adds ``roi_geometry``, the ``Roi`` of ``clicks`` in ``volume``; around ``box``, if there is one.

    ``implied_click`` stands for foreground clicks where there are none.

    Args:
        keys: of the clicks.
        size: voxels along each side.
        spacing_mm: isotropic spacing, mm.
        roi_axes: directions in which the ROI indices D, H, W grow.
        wider_spacings_mm: taken in turn where the clicks do not fit into the ROI before.
    """

    def __init__(
        self,
        keys: KeysCollection = "clicks",
        *,
        size: int,
        spacing_mm: float,
        roi_axes: str = "SAR",
        wider_spacings_mm: Sequence[float] = (),
    ) -> None:
        super().__init__(keys)
        self._size, self._roi_axes = size, roi_axes
        self._spacings_mm = (spacing_mm, *wider_spacings_mm)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raises ClickError where the clicks are farther apart than the widest ROI."""
        d = dict(data)
        for key in self.key_iterator(d):
            implied: Click | None = d.get("implied_click")
            clicks = d[key] if implied is None else (implied, *d[key])
            box: Box | None = d.get("box")
            d["roi_geometry"] = self._place(clicks, d["volume"], box)
        return d

    def _place(self, clicks: Sequence[Click], volume: Volume, box: Box | None) -> Roi:
        if box is not None:
            return place_roi_on_box(
                box,
                clicks,
                volume.voxels.shape,
                volume.affine,
                size=self._size,
                spacings_mm=self._spacings_mm,
                roi_axes=self._roi_axes,
            )
        for spacing_mm in self._spacings_mm:
            try:
                return place_roi(
                    clicks,
                    volume.voxels.shape,
                    volume.affine,
                    size=self._size,
                    spacing_mm=spacing_mm,
                    roi_axes=self._roi_axes,
                )
            except ClickError:
                if spacing_mm == self._spacings_mm[-1]:
                    raise
        raise AssertionError("there is at least one spacing")
