"""Over-segmentation: a smoothed image, its edges, supervoxels and the graph of their borders."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_gradient_magnitude
from skimage.measure import label
from skimage.morphology import local_minima
from skimage.restoration import denoise_tv_chambolle
from skimage.segmentation import watershed

Array = np.ndarray


@dataclass(frozen=True)
class Supervoxels:
    """Small pieces between edges.

    Attributes:
        labels: (i, j, k) int32; 0 = background, 1 to N.
        smooth: (i, j, k) float32; denoised image.
        edges: (i, j, k) float32; gradient magnitude per voxel.
    """

    labels: Array
    smooth: Array
    edges: Array


def make_supervoxels(values: Array, body: Array, *, smoothing: float, depth: float, sigma: float) -> Supervoxels:
    """Watershed of the gradient.

    Args:
        values: (i, j, k) float32, noise 1.
        body: (i, j, k) bool.
        smoothing: Weight of the total variation.
        depth: Minima of the gradient that are less deep than about this are one.
        sigma: Of the gradient's Gaussian, voxels.
    """
    smooth = denoise_tv_chambolle(values, weight=smoothing, max_num_iter=60, eps=1e-4).astype(np.float32)
    edges = gaussian_gradient_magnitude(smooth, sigma)
    minima = local_minima(np.floor(edges / depth).astype(np.int32))
    labels = watershed(edges, label(minima & body, connectivity=1), mask=body).astype(np.int32)
    return Supervoxels(labels, smooth, edges)


@dataclass(frozen=True)
class Borders:
    """Faces between supervoxels.

    Attributes:
        pairs: (E, 2) int; first < second; 0 = background.
        faces: (E,) number of voxel faces.
        strength: (E,) sum of the edge strength over the faces.
        strong: (E,) faces on a strong edge.
        rim: (N + 1,) faces of each supervoxel on the volume's border.
    """

    pairs: Array
    faces: Array
    strength: Array
    strong: Array
    rim: Array


def find_borders(supervoxels: Supervoxels, *, strong: float) -> Borders:
    """Every pair of neighbouring supervoxels."""
    count = int(supervoxels.labels.max()) + 1
    pairs, place, height = touching_faces(supervoxels.labels, supervoxels.edges, np.maximum)
    rim = np.zeros(count)
    for axis in range(3):
        for side in (0, -1):
            rim += np.bincount(np.moveaxis(supervoxels.labels, axis, 0)[side].ravel(), minlength=count)
    return Borders(
        pairs=pairs,
        faces=np.bincount(place).astype(float),
        strength=np.bincount(place, height),
        strong=np.bincount(place, height > strong),
        rim=rim,
    )


def touching_faces(
    labels: Array, values: Array, combine: Callable[[Array, Array], Array]
) -> tuple[Array, Array, Array]:
    """Faces between voxels of unequal labels.

    Args:
        labels: (i, j, k) int.
        values: (i, j, k).
        combine: Of the values on both sides of a face.

    Returns:
        (E, 2) the pairs of labels, first < second; (F,) which pair each face belongs to; (F,) its combined value.
    """
    count = int(labels.max()) + 1
    keys, heights = [], []
    for axis in range(3):
        turned, height = np.moveaxis(labels, axis, 0), np.moveaxis(values, axis, 0)
        at = turned[:-1] != turned[1:]
        near, far = turned[:-1][at].astype(np.int64), turned[1:][at].astype(np.int64)
        keys.append(np.minimum(near, far) * count + np.maximum(near, far))
        heights.append(combine(height[:-1][at], height[1:][at]))
    found, place = np.unique(np.concatenate(keys), return_inverse=True)
    return np.stack([found // count, found % count], axis=1), place, np.concatenate(heights)
