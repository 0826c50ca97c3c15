"""Intensities in units of the noise, and the background around the body."""

from typing import Literal

import numpy as np
from scipy.ndimage import binary_opening, label

Array = np.ndarray
Modality = Literal["ct", "mr", "pet"]
SOFT_TISSUE_HU = (-160.0, 240.0)
"""Between these, 1 HU counts in full; outside, `OTHER_SLOPE` of it."""
OTHER_SLOPE = 0.25
LIMITS_HU = (-1000.0, 1000.0)
AIR_HU = -500.0
BACKGROUND_SHARE = 0.08
"""What is darker than this share of the 99th percentile is background in MR and PET."""


def in_noise_units(image: Array, modality: Modality, body: Array) -> Array:
    """Float32 intensities whose noise has a standard deviation of about 1.

    Args:
        image: (i, j, k); CT in HU.
        modality: PET noise grows with uptake, so its square root is taken.
        body: (i, j, k) bool; where the noise is measured.
    """
    values = image.astype(np.float32)
    if modality == "ct":
        low, high = SOFT_TISSUE_HU
        soft = np.clip(values, low, high)
        values = soft + OTHER_SLOPE * (np.clip(values, *LIMITS_HU) - soft)
        floor = 4.0
    else:
        top = float(np.percentile(values[body], 99.5)) if body.any() else 1.0
        values = np.clip(values / max(top, 1e-6), 0, 1.5)
        values = np.sqrt(values) if modality == "pet" else values
        floor = 0.01
    return values / max(noise_of(values, body), floor)


def noise_of(values: Array, body: Array) -> float:
    """Standard deviation of the noise, from second differences along the first axis (robust against edges)."""
    inside = body[:-2] & body[1:-1] & body[2:]
    if not inside.any():
        return 0.0
    curvature = (values[:-2] + values[2:] - 2 * values[1:-1])[inside]
    return float(1.4826 * np.median(np.abs(curvature)) / np.sqrt(6))


def body_of(image: Array, modality: Modality) -> Array:
    """(i, j, k) bool: everything but the background that reaches the sides of the volume.

    Lungs and bowel gas belong to the body; the table of the scanner does not.
    """
    limit = AIR_HU if modality == "ct" else BACKGROUND_SHARE * float(np.percentile(image, 99))
    dark = image < limit
    numbers, count = label(dark)
    # Slices are the last axis of what we read; lungs may reach the first and last slice, but not the sides.
    sides = (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1])
    outside = np.zeros(count + 1, bool)
    for side in sides:
        outside[np.unique(side)] = True
    outside[0] = False
    solid = binary_opening(~outside[numbers], iterations=2)
    pieces, count = label(solid)
    if not count:
        return ~outside[numbers]
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.isin(pieces, np.flatnonzero(sizes > 0.2 * sizes.max()))
