"""What is known of an image's values as a whole, worked out once an image."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.volumes.volume import ImageError, Volume

MAX_SAMPLES = 125_000
"""Voxels that stand for the image. A share of one in a thousand is then known to a tenth of itself."""


@dataclass(frozen=True)
class ImageValues:
    """The finite values of an image.

    Attributes:
        low, high: of all voxels.
        ordered: those of every n-th voxel along each axis, lowest first.
        levels: how many different ones these are.
    """

    low: float
    high: float
    ordered: NDArray[np.float32]
    levels: int

    def percentile(self, percent: float) -> float:
        """The value below which that share of the voxels lies."""
        return float(self.ordered[round(percent / 100 * (len(self.ordered) - 1))])

    def share(self, low: float = -math.inf, high: float = math.inf) -> float:
        """Share of the voxels from ``low`` to ``high``, both included."""
        first = np.searchsorted(self.ordered, np.float32(low), "left")
        return float(np.searchsorted(self.ordered, np.float32(high), "right") - first) / len(self.ordered)


def image_values(image: Volume) -> ImageValues:
    """The values of an image; kept with it.

    Raises:
        ImageError: no finite voxel, or all of one value: nothing can be segmented.
    """
    values: ImageValues = image.statistic("image values", _measured)
    if not len(values.ordered):
        raise ImageError("The image has no finite voxel; intensities are expected. Export it again.")
    if values.low == values.high:
        raise ImageError(
            f"All voxels of the image have the value {values.low:g}; there is nothing to segment in it. Load the "
            "image itself, not an empty segmentation or a mask, or export it again."
        )
    return values


def _measured(voxels: Tensor) -> ImageValues:
    step = math.ceil((voxels.numel() / MAX_SAMPLES) ** (1 / 3))
    sample = voxels[::step, ::step, ::step].to(torch.float32).flatten()
    ordered: NDArray[Any] = sample[torch.isfinite(sample)].sort().values.numpy()
    low, high = _bounds(voxels)
    if not len(ordered) and low <= high:
        ordered = np.array([low, high], np.float32)
    return ImageValues(low, high, ordered, int(np.count_nonzero(np.diff(ordered))) + 1)


def _bounds(voxels: Tensor) -> tuple[float, float]:
    # Files run i fastest: as the memory lies, it is read once and in parallel.
    low, high = (float(end) for end in torch.aminmax(voxels.permute(2, 1, 0)))
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    # Slice by slice: a copy of the whole would be large.
    slices = voxels.unbind(2)
    beyond = math.inf
    low = min(float(one.nan_to_num(nan=beyond, posinf=beyond, neginf=beyond).amin()) for one in slices)
    high = max(float(one.nan_to_num(nan=-beyond, posinf=-beyond, neginf=-beyond).amax()) for one in slices)
    return low, high
