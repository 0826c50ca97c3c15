"""Images in every position scanners and files put them."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from lib.geometry.axes import WORLD_LETTERS, Array

DIRECTIONS = ("RAS", "LPS", "LAI", "PSR", "AIL", "LSA", "RIP", "SLP")

# Name: directions in which i, j, k grow; spacing along i, j, k in mm; degrees about x, y, z.
GEOMETRIES: dict[str, tuple[str, tuple[float, float, float], tuple[float, float, float]]] = {
    "axial": ("LPS", (0.8, 0.8, 1.0), (0, 0, 0)),
    "as RAS": ("RAS", (1.0, 1.0, 1.0), (0, 0, 0)),
    "reversed": ("LPI", (0.9, 0.7, 1.2), (0, 0, 0)),
    "sagittal": ("PIR", (0.7, 0.9, 1.3), (0, 0, 0)),
    "coronal": ("LIP", (0.9, 0.8, 1.4), (0, 0, 0)),
    "oblique": ("LPS", (0.8, 0.9, 1.1), (20, -12, 15)),
    "oblique sagittal": ("ASL", (0.8, 1.0, 1.2), (-15, 20, 8)),
}


def make_affine(
    directions: str, spacing: ArrayLike, degrees: ArrayLike = (0, 0, 0), origin: ArrayLike = (-31, 17, 250)
) -> Array:
    """(4, 4) voxel index to RAS mm of an image with these axes, turned about x, then y, then z."""
    affine = np.eye(4)
    for axis, (letter, length) in enumerate(zip(directions, np.asarray(spacing, float), strict=True)):
        world = next(w for w, pair in enumerate(WORLD_LETTERS) if letter in pair)
        affine[:3, axis] = 0
        affine[world, axis] = length if letter in "RAS" else -length
    turn = np.eye(3)
    for world, angle in enumerate(np.radians(np.asarray(degrees, float))):
        a, b = [other for other in range(3) if other != world]
        single = np.eye(3)
        single[a, a] = single[b, b] = np.cos(angle)
        single[b, a], single[a, b] = np.sin(angle), -np.sin(angle)
        turn = single @ turn
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = origin
    return affine


affines = st.builds(
    make_affine,
    st.sampled_from(DIRECTIONS),
    st.tuples(*[st.floats(0.4, 5.0)] * 3),
    st.tuples(*[st.floats(-20, 20)] * 3),
    st.tuples(*[st.floats(-500, 500)] * 3),
)
"""Flipped, permuted, anisotropic, oblique."""
