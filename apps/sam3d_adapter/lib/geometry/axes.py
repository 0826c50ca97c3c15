"""Axis orders and coordinates of images: the one place where they are converted.

An image is an array [i, j, k] in the order of its file with an affine from voxel index to RAS mm. The integer index k
is the *centre* of voxel k, so the voxel covers [k - 0.5, k + 0.5]. Directions are letters: ``R``/``L``, ``A``/``P``,
``S``/``I`` name where an index grows to.
"""

from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Matrix = tuple[tuple[float, ...], ...]
"""(4, 4) as tuples: hashable, and nobody can write into it."""

# By world axis x, y, z in RAS mm: letter for growing, letter for falling.
WORLD_LETTERS = ("RL", "AP", "SI")


class AxesError(ValueError):
    """Axis letters or an affine that describe no frame in space."""


def image_directions(affine: ArrayLike) -> str:
    """Where the indices i, j, k of an image grow to, e.g. ``"LPS"``.

    An oblique image gets the letters of the closest upright frame: the assignment of array axes to world axes with the
    largest sum of direction cosines, each world axis once.

    Args:
        affine: (4, 4), voxel index to RAS mm.

    Raises:
        AxesError: the affine is not finite or maps two axes onto one line or plane.
    """
    cosines = _linear(affine) / spacing_of(affine)
    if abs(np.linalg.det(cosines)) < 1e-3:
        raise AxesError(f"The affine's axes span no volume: {np.asarray(affine).tolist()}.")

    # Rounded, so that an exact tie (45 degrees) does not depend on the last bit of the affine.
    def alignment(order: tuple[int, ...]) -> float:
        return round(float(sum(abs(cosines[world, axis]) for axis, world in enumerate(order))), 6)

    best = max(permutations(range(3)), key=alignment)
    return "".join(WORLD_LETTERS[world][int(cosines[world, axis] < 0)] for axis, world in enumerate(best))


def is_left_handed(affine: ArrayLike) -> bool:
    """Whether the axes i, j, k of an image make a left-handed frame.

    Args:
        affine: (4, 4), voxel index to RAS mm.
    """
    return bool(np.linalg.det(_linear(affine)) < 0)


def reorder(source: str, target: str) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """How to read an array of axes ``source`` along axes ``target``.

    Args:
        source: directions of the array's axes, e.g. ``"LPS"``.
        target: directions wanted, e.g. ``"SAR"``.

    Returns:
        For each target axis the source axis that it runs along, and +1 or -1 (against it).

    Raises:
        AxesError: one of the two does not name each anatomical line once.
    """
    lines = [_lines(source), _lines(target)]
    axes = [lines[0].index(line) for line in lines[1]]
    signs = [1 if source[axis] == letter else -1 for axis, letter in zip(axes, target.upper(), strict=True)]
    return (axes[0], axes[1], axes[2]), (signs[0], signs[1], signs[2])


def spacing_of(affine: ArrayLike) -> Array:
    """(3,) voxel spacing along i, j, k in mm: the lengths of the affine's columns.

    Raises:
        AxesError: not (4, 4), not finite, or a spacing of zero.
    """
    spacing = np.linalg.norm(_linear(affine), axis=0)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise AxesError(f"The affine gives no voxel spacing above zero: {np.asarray(affine).tolist()}.")
    return spacing


def transform_points(matrix: ArrayLike, points: ArrayLike) -> Array:
    """Applies a (4, 4) affine to (N, 3) points."""
    matrix, points = np.asarray(matrix, np.float64), np.asarray(points, np.float64).reshape(-1, 3)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def voxel_to_mm(affine: ArrayLike, ijk: ArrayLike) -> Array:
    """(N, 3) voxel indices to (N, 3) RAS mm."""
    return transform_points(affine, ijk)


def mm_to_voxel(affine: ArrayLike, mm: ArrayLike) -> Array:
    """(N, 3) RAS mm to (N, 3) fractional voxel indices."""
    return transform_points(np.linalg.inv(np.asarray(affine, np.float64)), mm)


def as_matrix(affine: ArrayLike) -> Matrix:
    """(4, 4) as nested tuples of floats."""
    return tuple(tuple(float(value) for value in row) for row in np.asarray(affine, np.float64))


def _linear(affine: ArrayLike) -> Array:
    matrix = np.asarray(affine, np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise AxesError(f"An affine is a (4, 4) matrix of finite numbers, got {matrix.tolist()}.")
    return matrix[:3, :3]


def _lines(letters: str) -> list[int]:
    found = [world for letter in letters.upper() for world, pair in enumerate(WORLD_LETTERS) if letter in pair]
    if len(letters) != 3 or sorted(found) != [0, 1, 2]:
        raise AxesError(f"Axes {letters!r} must be three letters, one each of R/L, A/P, S/I, e.g. 'SAR'.")
    return found
