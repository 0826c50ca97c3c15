"""An image at the voxels of a region of interest."""

import torch
from torch import Tensor

from lib.geometry.interpolation import linear_taps, sample, within
from lib.geometry.roi import Roi


def resample_roi(voxels: Tensor, roi: Roi) -> tuple[Tensor, Tensor]:
    """Trilinear samples of an image at the ROI's voxels.

    A voxel is inside where its centre lies in the extent of the image's voxels; in the outermost half voxel the value
    of the last centre holds on. Voxels next to a value that is not finite count as outside.

    Args:
        voxels: (i, j, k), any real type.
        roi: of that image.

    Returns:
        (1, D, H, W) float32, 0 where outside; (1, D, H, W) bool.
    """
    axes = roi.image_axes
    positions = roi.image_positions()
    lengths = [voxels.shape[axis] for axis in axes]
    taps = [linear_taps(position, length) for position, length in zip(positions, lengths, strict=True)]
    values = sample(voxels.permute(axes), taps)

    d, h, w = (torch.from_numpy(within(position, length)) for position, length in zip(positions, lengths, strict=True))
    inside = d[:, None, None] & h[:, None] & w
    if voxels.is_floating_point():
        inside &= torch.isfinite(values)
    return torch.where(inside, values, 0.0)[None], inside[None]
