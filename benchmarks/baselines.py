"""Image-free and density-based baselines: what a click alone, or a click and region growing, can segment."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import (
    binary_dilation,
    binary_fill_holes,
    binary_opening,
    distance_transform_edt,
    gaussian_filter,
    generate_binary_structure,
    label,
)

Array = np.ndarray
Spacing = tuple[float, float, float]
Voxel = tuple[int, int, int]
Box = tuple[slice, slice, slice]
CROP_MM = 70.0
"""No region grows further than this from the click along any axis."""


@dataclass(frozen=True)
class GrowParams:
    """Free numbers of region growing.

    Attributes:
        smooth_mm: sigma of the Gaussian filter before anything else.
        seed_mm: radius of the ball around the click whose mean is the density looked for.
        tolerance_hu: largest difference from that mean.
        max_radius_mm: largest distance from the click.
        open_mm: radius of the opening that cuts thin bridges; 0 = none.
    """

    smooth_mm: float = 1.5
    seed_mm: float = 3.0
    tolerance_hu: float = 20.0
    max_radius_mm: float = 35.0
    open_mm: float = 2.0


@dataclass(frozen=True)
class Case:
    """One object with one click.

    Attributes:
        image: (i, j, k) HU.
        truth: (i, j, k) bool.
        spacing: mm along i, j, k.
        click_ijk: voxel indices.
    """

    image: Array
    truth: Array
    spacing: Spacing
    click_ijk: Voxel


GROW_GRID: tuple[GrowParams, ...] = tuple(
    GrowParams(smooth, seed, tolerance, radius, opening)
    for smooth, seed, tolerance, radius, opening in product(
        (1.0, 2.0, 3.0), (3.0,), (8.0, 12.0, 16.0, 22.0, 30.0), (15.0, 22.0, 30.0, 40.0), (0.0, 2.0, 4.0)
    )
)
BALL_GRID_MM: tuple[float, ...] = tuple(float(radius) for radius in range(4, 41, 2))


def dice(first: Array, second: Array) -> float:
    """Dice overlap of two boolean masks; 1 if both are empty."""
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 1.0 if total == 0 else 2 * int(np.count_nonzero(first & second)) / total


def centre_click(truth: Array) -> Voxel:
    """The voxel deepest within a boolean mask, in voxel units; the first in C order where several tie."""
    if not truth.any():
        raise ValueError("The mask is empty: it has no centre to click on.")
    distance = distance_transform_edt(np.pad(truth, 1))[1:-1, 1:-1, 1:-1]
    i, j, k = np.unravel_index(int(distance.argmax()), truth.shape)
    return int(i), int(j), int(k)


def random_click(truth: Array, rng: np.random.Generator) -> Voxel:
    """A uniformly drawn voxel of a boolean mask."""
    voxels = np.argwhere(truth)
    if not len(voxels):
        raise ValueError("The mask is empty: it has no voxel to click on.")
    i, j, k = voxels[int(rng.integers(len(voxels)))]
    return int(i), int(j), int(k)


def distance_mm(shape: Sequence[int], spacing: Spacing, click_ijk: Sequence[float]) -> Array:
    """(i, j, k) float32 distance of every voxel from the click, mm."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    square = sum(((axis - c) * np.float32(s)) ** 2 for axis, c, s in zip(axes, click_ijk, spacing, strict=True))
    return np.sqrt(np.asarray(square, dtype=np.float32))


def ball(shape: Sequence[int], spacing: Spacing, click_ijk: Voxel, radius_mm: float) -> Array:
    """Boolean mask of the voxels within ``radius_mm`` of the click: knows nothing of the image."""
    return distance_mm(shape, spacing, click_ijk) <= radius_mm


def crop_box(shape: Sequence[int], spacing: Spacing, click_ijk: Voxel) -> tuple[Box, Voxel]:
    """The part of the grid within ``CROP_MM`` of the click along each axis, and the click within it.

    Raises:
        ValueError: the click lies outside the image.
    """
    if not all(0 <= c < n for c, n in zip(click_ijk, shape, strict=True)):
        raise ValueError(f"Click {click_ijk} is outside the image of {tuple(shape)} voxels.")
    low = [max(0, c - int(CROP_MM / s)) for c, s in zip(click_ijk, spacing, strict=True)]
    high = [min(n, c + int(CROP_MM / s) + 1) for c, s, n in zip(click_ijk, spacing, shape, strict=True)]
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    return box, (click_ijk[0] - low[0], click_ijk[1] - low[1], click_ijk[2] - low[2])


def smooth(image: Array, spacing: Spacing, sigma_mm: float) -> Array:
    """Gaussian filter of a width given in mm; float32."""
    return gaussian_filter(
        image.astype(np.float32), [sigma_mm / s for s in spacing], mode="nearest", truncate=2.5, output=np.float32
    )


def grow_smoothed(smoothed: Array, distance: Array, spacing: Spacing, click: Voxel, params: GrowParams) -> Array:
    """Grow in a crop that is smoothed already; ``distance`` is that of each voxel from the click, mm."""
    mean = float(smoothed[distance <= max(params.seed_mm, min(spacing))].mean())
    band = (np.abs(smoothed - mean) <= params.tolerance_hu) & (distance <= params.max_radius_mm)
    # Where the click itself is an outlier, what touches the small ball around it counts as clicked.
    seeds = distance <= max(params.seed_mm, min(spacing))
    allowed = band
    if params.open_mm:
        opened = binary_opening(band, structure=element(spacing, params.open_mm))
        band = opened if (opened & seeds).any() else band
    pieces, count = label(band)
    if count == 0:
        return seeds
    piece = int(pieces[click])
    if piece == 0:
        near = np.bincount(pieces[seeds], minlength=count + 1)
        near[0] = 0
        if near.max() == 0:
            return seeds
        piece = int(near.argmax())
    # The opening shaved the rim as well as the bridges; one voxel of it comes back where the density allows.
    rim = binary_dilation(pieces == piece, structure=generate_binary_structure(3, 1))
    return binary_fill_holes((pieces == piece) | (rim & allowed))


def element(spacing: Spacing, radius_mm: float) -> Array:
    """Structuring element: the voxels within ``radius_mm`` of its middle."""
    half = [int(radius_mm / s) for s in spacing]
    return distance_mm([2 * h + 1 for h in half], spacing, half) <= radius_mm


def grow_region(image: Array, spacing: Spacing, click_ijk: Voxel, params: GrowParams | None = None) -> Array:
    """Segment what is connected to the click and about as dense.

    Args:
        image: (i, j, k) HU.
        spacing: mm along i, j, k.
        click_ijk: voxel indices.
        params: free numbers; None = ``GrowParams()``.

    Returns:
        Boolean mask of the image's shape.

    Raises:
        ValueError: the click lies outside the image.
    """
    params = params or GrowParams()
    box, click = crop_box(image.shape, spacing, click_ijk)
    smoothed = smooth(image[box], spacing, params.smooth_mm)
    mask = np.zeros(image.shape, bool)
    mask[box] = grow_smoothed(smoothed, distance_mm(smoothed.shape, spacing, click), spacing, click, params)
    return mask


def tune_region_growing(cases: Iterable[Case], grid: Sequence[GrowParams] = GROW_GRID) -> tuple[GrowParams, float]:
    """Choose the parameters of best mean Dice; returns them with that Dice."""
    scores = np.zeros(len(grid))
    count = 0
    for case in cases:
        count += 1
        box, click = crop_box(case.image.shape, case.spacing, case.click_ijk)
        truth = case.truth[box]
        outside = int(np.count_nonzero(case.truth)) - int(np.count_nonzero(truth))
        distance = distance_mm(truth.shape, case.spacing, click)
        smoothed = {s: smooth(case.image[box], case.spacing, s) for s in {p.smooth_mm for p in grid}}
        for index, params in enumerate(grid):
            near = tuple(
                slice(max(0, c - int(params.max_radius_mm / s) - 2), c + int(params.max_radius_mm / s) + 3)
                for c, s in zip(click, case.spacing, strict=True)
            )
            local = (click[0] - near[0].start, click[1] - near[1].start, click[2] - near[2].start)
            mask = grow_smoothed(smoothed[params.smooth_mm][near], distance[near], case.spacing, local, params)
            total = int(mask.sum()) + int(truth.sum()) + outside
            scores[index] += 2 * int((mask & truth[near]).sum()) / total
    if not count:
        raise ValueError("No case to tune on.")
    best = int(scores.argmax())
    return grid[best], float(scores[best] / count)


def tune_ball(cases: Iterable[Case], grid_mm: Sequence[float] = BALL_GRID_MM) -> tuple[float, float]:
    """Choose the radius, mm, of best mean Dice; returns it with that Dice."""
    scores = np.zeros(len(grid_mm))
    count = 0
    for case in cases:
        count += 1
        distance = distance_mm(case.truth.shape, case.spacing, case.click_ijk)
        scores += [dice(distance <= radius, case.truth) for radius in grid_mm]
    if not count:
        raise ValueError("No case to tune on.")
    best = int(scores.argmax())
    return grid_mm[best], float(scores[best] / count)
