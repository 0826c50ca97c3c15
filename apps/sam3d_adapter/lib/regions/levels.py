"""Pieces between two levels of intensity, split where they are joined by a neck."""

from collections.abc import Iterator

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.cluster.vq import kmeans
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.measure import label
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from lib.regions.supervoxels import touching_faces

Array = np.ndarray


def draw_levels(values: Array, count: int) -> Array:
    """(count - 1,) levels between the ``count`` most typical intensities (k-means in one dimension)."""
    sample = np.sort(values)[:: max(1, values.size // 20000)].astype(np.float64)
    centres = np.unique(np.quantile(sample, (np.arange(count) + 0.5) / count))
    centres = np.sort(kmeans(sample, centres)[0])
    return (centres[1:] + centres[:-1]) / 2


def between_levels(smooth: Array, body: Array, levels: Array) -> Iterator[Array]:
    """What is brighter than each level, darker than each level, and between neighbouring levels."""
    for level in levels:
        yield body & (smooth > level)
    for level in levels:
        yield body & (smooth < level)
    for low, high in zip(levels[:-1], levels[1:], strict=True):
        yield body & (smooth > low) & (smooth < high)


def split_at_necks(mask: Array, sampling: tuple[float, ...], ratio: float) -> Array:
    """Labels the bodies that a mask consists of.

    Two bodies are one if the way between them is nearly as wide as they are.

    Args:
        mask: (i, j, k) bool.
        sampling: Voxel size relative to the smallest.
        ratio: Width of a neck, relative to the geometric mean of the widths it joins, above which they are one body.

    Returns:
        (i, j, k) int32.
    """
    depth = distance_transform_edt(mask, sampling=sampling).astype(np.float32)
    rounded = gaussian_filter(depth, [0.7 / s for s in sampling])
    basins = watershed(-rounded, label(local_maxima(rounded) & mask, connectivity=3), mask=mask).astype(np.int32)
    count = int(basins.max()) + 1
    peak = np.zeros(count)
    np.maximum.at(peak, basins.ravel(), depth.ravel())
    pairs, place, height = touching_faces(basins, depth, np.minimum)
    saddle = np.zeros(len(pairs))
    np.maximum.at(saddle, place, height)
    bodies = DisjointSet(range(count))
    for pair in np.argsort(-saddle).tolist():
        a, b = (bodies[int(basin)] for basin in pairs[pair])
        if 0 not in pairs[pair] and a != b and saddle[pair] >= ratio * np.sqrt(peak[a] * peak[b]):
            bodies.merge(a, b)
            peak[bodies[a]] = max(peak[a], peak[b])
    names = np.array([bodies[basin] for basin in range(count)], np.int32)
    return names[basins]
