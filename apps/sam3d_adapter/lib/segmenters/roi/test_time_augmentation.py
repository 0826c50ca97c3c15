"""Test-time augmentation: a prediction along other axes, brought back to the region's own voxels."""

import numpy as np
import torch
from torch import Tensor

from lib.geometry.roi import Roi


def rotated_back(values: Tensor, rotated: Roi, roi: Roi, outside: Tensor) -> Tensor:
    """Values of an ROI, from those at the same places of an ROI with other axes.

    Args:
        values: (D, H, W) of the rotated ROI, a cube like this one.
        rotated: has the same size and spacing, and index ``size // 2`` at the same place.
        roi: the ROI whose values are wanted.
        outside: (D, H, W) of that ROI, for the places that the rotated one does not hold: with an even number of
            voxels a side, index 0 of each axis that runs the other way.

    Raises:
        ValueError: the two differ in size, spacing or place.
    """
    middle = [[size // 2 for size in roi.size_dhw]]
    same = rotated.size_dhw == roi.size_dhw and rotated.spacing_mm == roi.spacing_mm
    if not same or not np.allclose(rotated.dhw_to_ijk(middle), roi.dhw_to_ijk(middle)):
        raise ValueError("The two ROIs differ in more than in how their axes run.")
    order = [rotated.image_axes.index(axis) for axis in roi.image_axes]
    reverse = [axis for axis in range(3) if rotated.steps[order[axis]] * roi.steps[axis] < 0]
    held = tuple(slice(int(axis in reverse and size % 2 == 0), None) for axis, size in enumerate(roi.size_dhw))
    seen = outside.clone()
    # Index 0 has its place one voxel beyond the other's last, so the rest is the other's from 1 on, reversed.
    seen[held] = torch.flip(values.permute(order)[held], reverse)
    return seen
