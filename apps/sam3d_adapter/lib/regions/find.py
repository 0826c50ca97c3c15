"""Objects of a volume without labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy.ndimage import grey_opening
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label

from lib.regions.candidates import (
    STRONG_EDGE,
    Candidate,
    Limits,
    Region,
    body_candidates,
    choose_regions,
    judge,
    node_candidates,
)
from lib.regions.intensity import Modality, body_of, in_noise_units
from lib.regions.levels import between_levels, draw_levels, split_at_necks
from lib.regions.merging import merge
from lib.regions.supervoxels import Supervoxels, find_borders, make_supervoxels

Array = np.ndarray
MIN_VOXELS = 50
"""Smallest region, whatever its volume."""
THIN_VOXELS = 7
"""What is thinner than this is looked for as a thin thing."""
THIN_CONTRASTS = (4.0, 8.0, 16.0, 32.0)
"""How far a thin thing stands out from its surroundings somewhere, and half as far everywhere; noise 1."""


@dataclass(frozen=True)
class Scale:
    """How coarsely a volume is divided; drawn per seed.

    Attributes:
        smoothing: weight of the total variation.
        depth: of the gradient's minima that start a supervoxel.
        edge_share: weight of the edge against the difference of the means when supervoxels merge.
        size_power: how much smaller supervoxels merge earlier.
        levels: number of typical intensities.
        neck: width of a neck, relative to what it joins, below which two bodies are two.
        outline: sigma of the Gaussian that smooths outlines, voxels.
    """

    smoothing: float
    depth: float
    edge_share: float
    size_power: float
    levels: int
    neck: float
    outline: float


def draw_scale(rng: np.random.Generator) -> Scale:
    """Draws how coarsely a volume is divided."""
    return Scale(
        smoothing=float(rng.uniform(1.0, 2.5)),
        depth=float(rng.uniform(0.15, 0.35)),
        edge_share=float(rng.uniform(0.3, 0.7)),
        size_power=float(rng.uniform(0.1, 0.3)),
        levels=int(rng.integers(4, 7)),
        neck=float(rng.uniform(0.35, 0.55)),
        outline=float(rng.uniform(0.7, 1.0)),
    )


def find_regions(
    image: Array,
    spacing: Array,
    modality: Modality,
    scale: Scale,
    *,
    limits: Limits | None = None,
    allowed: Callable[[Region], bool] = lambda region: True,
) -> list[Region]:
    """Finds regions with a clear border, of any size, whole and part; best first.

    Args:
        image: (i, j, k).
        spacing: (3,) mm.
        modality: Of the image.
        scale: How coarsely.
        limits: What a region must be.
        allowed: False = not an object, for reasons other than the image.
    """
    limits = limits or Limits()
    body = body_of(image, modality)
    if not body.any():
        return []
    sampling = tuple(float(s) for s in np.asarray(spacing) / min(spacing))
    voxel_mm3 = float(np.prod(spacing))
    least = max(limits.volume_mm3[0] / voxel_mm3, MIN_VOXELS)
    voxels = least, min(limits.volume_mm3[1] / voxel_mm3, limits.max_share * np.count_nonzero(body))
    values = in_noise_units(image, modality, body)
    supervoxels = make_supervoxels(values, body, smoothing=scale.smoothing, depth=scale.depth, sigma=0.8)
    sources = chain(
        merged_pieces(supervoxels, voxels, scale, 4 * limits.per_octave),
        level_pieces(supervoxels, body, sampling, voxels, scale),
    )
    sigmas = tuple(scale.outline / s for s in sampling)
    thin = tuple(0.4 / s for s in sampling)
    judged = chain(
        judge(sources, supervoxels, sigmas, limits),
        judge(thin_pieces(supervoxels, body, voxels), supervoxels, thin, limits),
    )
    return choose_regions(filter(allowed, judged), limits)


def merged_pieces(
    supervoxels: Supervoxels, voxels: tuple[float, float], scale: Scale, count: int
) -> Iterator[Candidate]:
    """Supervoxels merged step by step."""
    flat = supervoxels.labels.ravel()
    sums = np.bincount(flat, supervoxels.smooth.ravel())
    borders = find_borders(supervoxels, strong=STRONG_EDGE)
    tree = merge(borders, np.bincount(flat), sums, edge_share=scale.edge_share, size_power=scale.size_power)
    return node_candidates(tree, supervoxels.labels, voxels, count)


def level_pieces(
    supervoxels: Supervoxels, body: Array, sampling: tuple[float, ...], voxels: tuple[float, float], scale: Scale
) -> Iterator[Candidate]:
    """What lies between levels of intensity, split at necks."""
    levels = draw_levels(supervoxels.smooth[body], scale.levels)
    for mask in between_levels(supervoxels.smooth, body, levels):
        yield from body_candidates(split_at_necks(mask, sampling, scale.neck), voxels)


def thin_pieces(supervoxels: Supervoxels, body: Array, voxels: tuple[float, float]) -> Iterator[Candidate]:
    """Bright and dark thin things, such as vessels and airways: what an opening or closing removes."""
    for sign in (1, -1):
        smooth = sign * supervoxels.smooth
        opened = grey_opening(smooth, (THIN_VOXELS,) * 3)
        for contrast in THIN_CONTRASTS:
            thin = apply_hysteresis_threshold(smooth - opened, contrast / 2, contrast) & body
            yield from body_candidates(label(thin, connectivity=3), voxels)
