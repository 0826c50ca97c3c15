"""How an image looks to a network as a whole: its encoder's tokens around the middle of the body, pooled."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from lib.geometry.axes import spacing_of
from lib.geometry.resample import resample_roi
from lib.geometry.roi import Roi, roi_at
from lib.segmenters.intensity import apply_window, intensity_window
from lib.segmenters.intensity_settings import WindowIntensity
from lib.segmenters.roi.predictor import Predictor
from lib.segmenters.roi.settings import RoiNetworkSettings
from lib.segmenters.roi.zoom import zoom_spacings_mm
from lib.volumes.volume import Volume

_BODY = 0.25
"""Share of the intensity window above which a voxel counts as body and not as air."""
_SAMPLES = 64
"""Voxels along each axis by which the body is found."""


def image_features(image: Volume, predictor: Predictor, settings: RoiNetworkSettings) -> NDArray[np.float32] | None:
    """Mean and standard deviation of each channel over the tokens that lie in the image.

    Args:
        image: the whole image.
        predictor: runs the network.
        settings: of its preset.

    Returns:
        (2 C,); None where the network has no feature map.

    Raises:
        ImageError: an image without contrast.
    """
    window = intensity_window(settings.intensity, image)
    values, inside = resample_roi(image.voxels, region_of_image(image, window, settings))
    seen = predictor.feature_map(apply_window(values, inside, window))
    if seen is None:
        return None
    d, h, w = seen.shape[1:]
    share = F.adaptive_avg_pool3d(inside.float(), (d, h, w))
    share = share / share.sum()
    mean = (seen * share).sum((1, 2, 3))
    variance = ((seen - mean[:, None, None, None]).square() * share).sum((1, 2, 3))
    return torch.cat([mean, variance.sqrt()]).numpy()


def region_of_image(image: Volume, window: WindowIntensity, settings: RoiNetworkSettings) -> Roi:
    """The region around the middle of the body at the finest zoom level that holds the image, or else at the widest.

    At the widest level alone, small images such as those of a hippocampus would fill less than one token.
    """
    shape = image.voxels.shape
    roi = settings.roi
    spacings_mm = zoom_spacings_mm(roi)
    longest_mm = float((spacing_of(image.affine) * shape).max())
    spacing_mm = next((mm for mm in spacings_mm if mm * roi.size >= longest_mm), spacings_mm[-1])
    return roi_at(middle_of_body(image, window), shape, image.affine, roi.size, spacing_mm, roi.axes)


def middle_of_body(image: Volume, window: WindowIntensity) -> NDArray[np.float64]:
    """(3,) image index: the median place, along each axis, of what is no air; of all voxels where all is."""
    steps = [max(1, length // _SAMPLES) for length in image.voxels.shape]
    sampled = image.voxels[:: steps[0], :: steps[1], :: steps[2]]
    low, high = window.clip_hu
    places = np.argwhere((sampled > low + _BODY * (high - low)).numpy())
    if not len(places):
        return (np.array(image.voxels.shape) - 1) / 2
    return np.median(places, axis=0) * steps
