"""Signed distances (mm, negative inside) of the shapes that anatomy and lesions are made of.

They are distances near the surface only, which is where the renderer reads them.
"""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray
FAR_MM = 20.0
"""Value of a distance field where no shape is near."""


def ellipsoid(coords: Sequence[Array], centre: Sequence[float] | Array, radii: Sequence[float] | Array) -> Array:
    """Distance to an axis-parallel ellipsoid; with two coordinates an endless elliptic cylinder.

    Args:
        coords: one array of mm per axis.
        centre: mm.
        radii: semi-axes, mm.
    """
    first: Array | float = 0.0
    second: Array | float = 0.0
    for coord, middle, radius in zip(coords, centre, radii, strict=True):
        scaled = (coord - np.float32(middle)) / np.float32(radius)
        square = scaled * scaled
        first = first + square
        second = second + square / np.float32(radius * radius)
    norm = np.sqrt(first)
    return norm * (norm - 1) / np.sqrt(second + np.float32(1e-9))


def intersect(*distances: Array) -> Array:
    """Distance to what lies in every shape."""
    result = distances[0]
    for distance in distances[1:]:
        result = np.maximum(result, distance)
    return result


def unite(*distances: Array) -> Array:
    """Distance to what lies in any shape."""
    result = distances[0]
    for distance in distances[1:]:
        result = np.minimum(result, distance)
    return result


def unite_smooth(first: Array, second: Array, width_mm: float) -> Array:
    """Union whose seam is rounded over ``width_mm`` (polynomial smooth minimum)."""
    blend = np.clip(np.float32(0.5) + (second - first) / np.float32(2 * width_mm), 0, 1)
    return second + (first - second) * blend - np.float32(width_mm) * blend * (1 - blend)


def add_tube(field: Array, points: Array, radii: Array, step_mm: float) -> None:
    """Unite a tube with a distance field, in place.

    Args:
        field: distance field on the lattice.
        points: (n, 3) centre line in lattice indices.
        radii: (n,) mm.
        step_mm: lattice step.
    """
    for start, stop, radius_start, radius_stop in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        reach = (max(radius_start, radius_stop) + 6.0) / step_mm
        low = np.maximum(np.floor(np.minimum(start, stop) - reach), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(start, stop) + reach) + 1, field.shape).astype(int)
        if np.any(low >= high):
            continue
        axes = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        along = (stop - start).astype(np.float32)
        offset = [axis.astype(np.float32) - np.float32(s) for axis, s in zip(axes, start, strict=True)]
        length = float(along @ along) + 1e-6
        place = np.clip(sum(o * a for o, a in zip(offset, along, strict=True)) / np.float32(length), 0, 1)
        square = sum((o - place * a) ** 2 for o, a in zip(offset, along, strict=True))
        radius = np.float32(radius_start) + place * np.float32(radius_stop - radius_start)
        distance = np.sqrt(square) * np.float32(step_mm) - radius
        box = field[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        np.minimum(box, distance, out=box)


def wandering_line(
    rng: np.random.Generator, start: Array, direction: Array, *, length_mm: float, step_mm: float, bend: float
) -> Array:
    """Draw a winding line.

    Args:
        rng: source of randomness.
        start: (3,) mm.
        direction: (3,) first heading.
        length_mm: length.
        step_mm: distance of successive points.
        bend: how far the heading turns at each step, 0 = straight.

    Returns:
        (n, 3) points, mm.
    """
    points = [np.asarray(start, dtype=np.float64)]
    heading = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    for _ in range(max(1, int(length_mm / step_mm))):
        heading = heading + bend * rng.standard_normal(3)
        heading /= np.linalg.norm(heading)
        points.append(points[-1] + step_mm * heading)
    return np.array(points)
