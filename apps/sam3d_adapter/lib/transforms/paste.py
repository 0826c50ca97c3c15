"""Logits of the ROI -> mask on the image's own grid."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from lib.interaction.roi import Roi
from lib.transforms.logits_transform import LogitsTransform
from lib.transforms.separable import interpolate, linear_taps, within


class RoiLogitsToImaged(LogitsTransform):
    """Adds ``pred``, the mask (i, j, k) uint8 of 0 and 1 as a MetaTensor, and ``pred_meta_dict`` for the host's writer.

    The voxels of ``clicks`` are what the clicks say, where interpolation between the grids would have it otherwise.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            affine = d["volume"].affine.copy()
            mask = paste_mask(d[key], d["roi_geometry"], self._threshold)
            for click in d["clicks"]:
                mask[click.ijk] = click.is_foreground
            d["pred"] = MetaTensor(torch.from_numpy(mask), affine=affine)
            # Without it the writer would put the mask at the origin.
            d["pred_meta_dict"] = {"affine": affine}
        return d


def paste_mask(logits: Tensor, roi: Roi, threshold: float) -> np.ndarray:
    """The mask of an ROI on the whole image.

    The difference of the two logits is interpolated trilinearly to the centres of the image's voxels; it is the logit
    of the foreground probability. Image voxels whose centre lies outside the ROI are 0.

    Args:
        logits: (2, D, H, W), channel 1 the foreground.
        roi: of that image.
        threshold: foreground probability, between 0 and 1.

    Returns:
        (i, j, k) uint8 of 0 and 1.

    Raises:
        ValueError: logits of another shape than the ROI's.
    """
    if tuple(logits.shape) != (2, *roi.size_dhw):
        raise ValueError(f"Logits of shape {tuple(logits.shape)} do not fit an ROI of {roi.size_dhw}.")
    # MONAI's MetaTensor would carry its metadata through every step.
    logits = logits.detach().as_subclass(Tensor).to("cpu", torch.float32)

    axes, taps, target = roi.image_axes, [], []
    for axis, step, start, size in zip(axes, roi.steps, roi.starts, roi.size_dhw, strict=True):
        positions = (np.arange(roi.image_shape[axis]) - start) / step
        covered = np.flatnonzero(within(positions, size))
        if not len(covered):
            return _empty(roi.image_shape)
        taps.append(linear_taps(positions[covered], size))
        target.append(slice(int(covered[0]), int(covered[-1]) + 1))

    box = logits[(slice(None), *(slice(tap.first, tap.stop) for tap in taps))]
    foreground = interpolate(box[1] - box[0], taps) > math.log(threshold / (1 - threshold))
    mask = _empty(roi.image_shape)
    mask.transpose(axes)[tuple(target)] = foreground.numpy()
    return mask


def _empty(shape: tuple[int, int, int]) -> np.ndarray:
    # i fastest, as files are written; NumPy's zeros cost nothing where they are not touched.
    return np.zeros(shape, np.uint8, order="F")
