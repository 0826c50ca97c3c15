"""What was seen of a region along other axes, on the region's own voxels."""

import numpy as np
import torch
from torch import Tensor

from lib.geometry.roi import Roi


def rotated_back(values: Tensor, rotated: Roi, roi: Roi, outside: Tensor) -> Tensor:
    """Values on the voxels of an ROI, from those of the same places in one whose axes run otherwise.

    Args:
        values: (D, H, W) of the other ROI, a cube like this one.
        rotated: the other ROI, of the same size and spacing and with index ``size // 2`` at the same place.
        roi: this one.
        outside: (D, H, W) of this one, taken for the places that the other does not hold: along an axis that runs the
            other way those of index 0, where the side is of an even number of voxels.

    Raises:
        ValueError: the two are of other sizes or spacings, or lie elsewhere.
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
