"""Small CT-like volumes of a lesion that a model has never seen so: a dark core whose bright rim belongs to it."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SHAPE = (72, 72, 56)
AFFINE = np.diag([-1.0, -1.0, 1.5, 1.0])
NOISE_HU = 14.0


@dataclass(frozen=True)
class RingLesion:
    """One patient.

    Attributes:
        image: (i, j, k) int16 HU.
        truth: (i, j, k) bool, core and rim.
        affine: (4, 4), voxel index to RAS mm.
    """

    image: np.ndarray
    truth: np.ndarray
    affine: np.ndarray


def make_ring_lesion(seed: int) -> RingLesion:
    """The patient of a seed: place, size, shape, thickness of the rim, and what lies beside it differ."""
    rng = np.random.default_rng([seed, 731])
    spacing = np.abs(np.diag(AFFINE)[:3])
    mm = np.stack(np.meshgrid(*[np.arange(n) * s for n, s in zip(SHAPE, spacing, strict=True)], indexing="ij"))
    middle = np.array(SHAPE) * spacing / 2 + rng.uniform(-8, 8, 3)
    radius, rim = rng.uniform(13, 19), rng.uniform(3.5, 5.5)
    depth = _irregular(mm, middle, radius * rng.uniform(0.85, 1.15, 3), rng)
    hu = 45 + 8 * _smooth(rng, 12.0)
    for _ in range(3):  # vessels, as bright as the rim
        axis, place = rng.integers(3), rng.uniform(0.1, 0.9, 3) * np.array(SHAPE) * spacing
        across = [n for n in range(3) if n != axis]
        distance = np.sqrt(sum((mm[n] - place[n] - 4 * np.sin(mm[axis] / 15)) ** 2 for n in across))
        hu = np.where(distance < rng.uniform(2, 3.5), 95, hu)
    hu = np.where(depth < 0, 95, hu)
    hu = np.where(depth < -rim, 12 + 5 * _smooth(rng, 5.0), hu)
    hu = ndimage.gaussian_filter(hu, 0.6) + rng.normal(0, NOISE_HU, SHAPE)
    return RingLesion(np.rint(hu).astype(np.int16), depth < 0, AFFINE.copy())


def _irregular(mm: np.ndarray, middle: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Signed distance to a lumpy ellipsoid, mm, negative inside."""
    offset = mm - middle[:, None, None, None]
    norm = np.sqrt(((offset / radii[:, None, None, None]) ** 2).sum(axis=0))
    return (norm - 1) * radii.mean() + 1.6 * _smooth(rng, 7.0)


def _smooth(rng: np.random.Generator, width: float) -> np.ndarray:
    """A random field of unit deviation that changes over ``width`` voxels."""
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), width)
    return field / field.std()
