"""A volume as the slices that SAM 2 sees: along which axis, how bright, how large, and where a voxel lies in one."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lib.families.sam2.settings import SliceSettings
from lib.geometry.axes import spacing_of
from lib.segmenters.intensity import intensity_window
from lib.volumes.volume import Volume

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the images that SAM 2 was trained on, by channel."""


class Slices:
    """The slices of one image, across the axis of its widest spacing: the one that it was scanned along.

    Args:
        volume: the image.
        settings: of the preset.
        pixels: side of the square that a slice is resized to, whatever its own shape.
    """

    def __init__(self, volume: Volume, settings: SliceSettings, pixels: int) -> None:
        self.axis = self.axis_of(volume.affine)
        self._spacing_mm = spacing_of(volume.affine)
        self._voxels, self._settings, self.pixels = volume.voxels, settings, pixels
        window = intensity_window(settings.intensity, volume)
        self._low, self._high = window.clip_hu

    @staticmethod
    def axis_of(affine: NDArray[np.float64]) -> int:
        """The axis across which slices lie, of an image with this affine."""
        spacing = np.round(spacing_of(affine), 3)
        # Where two are equally wide, the last of them, for files store slices last.
        return 2 - int(np.argmax(spacing[::-1]))

    def __len__(self) -> int:
        return int(self._voxels.shape[self.axis])

    @property
    def shape(self) -> tuple[int, int]:
        """Voxels of a slice along y and x: the two other axes, the later one first."""
        x, y = (n for axis, n in enumerate(self._voxels.shape) if axis != self.axis)
        return y, x

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """From slice to slice, and of the voxels of a slice along y and x."""
        x, y = (float(step) for axis, step in enumerate(self._spacing_mm) if axis != self.axis)
        return float(self._spacing_mm[self.axis]), y, x

    def place(self, ijk: tuple[int, int, int]) -> tuple[int, tuple[float, float]]:
        """The slice that holds a voxel, and the middle of the voxel in it: (x, y) in pixels of the square."""
        x, y = (index for axis, index in enumerate(ijk) if axis != self.axis)
        rows, columns = self.shape
        return ijk[self.axis], ((x + 0.5) / columns * self.pixels, (y + 0.5) / rows * self.pixels)

    def image(self, number: int) -> Tensor:
        """(1, 3, pixels, pixels) float32: what the network sees of one slice."""
        shown = (number,) * 3
        if self._settings.channels == "neighbours":
            shown = (max(number - 1, 0), number, min(number + 1, len(self) - 1))
        planes = torch.stack([self._voxels.select(self.axis, index).T.to(torch.float32) for index in shown])
        share = (planes.clamp(self._low, self._high) - self._low) / (self._high - self._low)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        square = F.interpolate(share[None], (self.pixels,) * 2, mode="bilinear", antialias=True)
        return (square - mean) / std

    def on_image(self, logit: Tensor) -> Tensor:
        """(x, y) logits of the voxels of a slice from those of the network, (1, 1, h, w)."""
        return F.interpolate(logit, self.shape, mode="bilinear", align_corners=False)[0, 0].T
