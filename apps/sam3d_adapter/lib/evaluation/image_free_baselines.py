"""Masks of whoever does not look at the image: the bar under every score.

Public images are often cropped around their structure, so that its place and size are known before one looks.
"""

from collections.abc import Sequence

import numpy as np

from lib.evaluation.simulated_user import Mask, SimulatedClick, bounding_box


class BallPainter:
    """Paints a ball around each click: a first of one radius, further ones of another, added or removed by sign.

    Args:
        shape: voxels along i, j, k.
        spacing: mm along i, j, k.
        radii_mm: of the first and of the further balls.
    """

    def __init__(self, shape: Sequence[int], spacing: Sequence[float], radii_mm: tuple[float, float]) -> None:
        self._spacing, self._radii_mm = tuple(spacing), radii_mm
        self._painted = 0
        self.mask: Mask = np.zeros(tuple(shape), dtype=bool)

    def paint(self, clicks: Sequence[SimulatedClick]) -> Mask:
        """The mask after further clicks, in their order; it is changed by the next call."""
        for click in clicks:
            self._paint(click, self._radii_mm[min(self._painted, 1)])
            self._painted += 1
        return self.mask

    def _paint(self, click: SimulatedClick, radius_mm: float) -> None:
        reach = [int(radius_mm / length) for length in self._spacing]
        box = tuple(
            slice(max(0, at - far), min(size, at + far + 1))
            for at, far, size in zip(click.ijk, reach, self.mask.shape, strict=True)
        )
        square = _distances_squared(box, click.ijk, self._spacing)
        self.mask[box][square <= radius_mm**2] = click.positive


def centred_ellipsoid(shape: Sequence[int], share: float) -> Mask:
    """The ellipsoid in the middle of an image, its semi-axes a share of half the image."""
    centre = [(size - 1) / 2 for size in shape]
    return _ellipsoid(tuple(slice(0, size) for size in shape), centre, [share * size / 2 for size in shape])


def filled_box(truth: Mask) -> Mask:
    """The tight box around a truth that is not empty, filled."""
    box = bounding_box(truth)
    assert box is not None  # an object without voxels is no case
    mask = np.zeros_like(truth)
    mask[box] = True
    return mask


def ellipsoid_in_box(truth: Mask) -> Mask:
    """The ellipsoid that is inscribed in the tight box around a truth that is not empty."""
    box = bounding_box(truth)
    assert box is not None  # an object without voxels is no case
    mask = np.zeros_like(truth)
    centre = [(side.start + side.stop - 1) / 2 for side in box]
    mask[box] = _ellipsoid(box, centre, [(side.stop - side.start) / 2 for side in box])
    return mask


def _ellipsoid(box: tuple[slice, ...], centre: Sequence[float], semi_axes: Sequence[float]) -> Mask:
    return _distances_squared(box, centre, [1 / length for length in semi_axes]) <= 1.0


def _distances_squared(box: tuple[slice, ...], centre: Sequence[float], scale: Sequence[float]) -> np.ndarray:
    axes = np.ogrid[box]
    parts = [((axis - at) * by) ** 2 for axis, at, by in zip(axes, centre, scale, strict=True)]
    return np.asarray(parts[0] + parts[1] + parts[2])
