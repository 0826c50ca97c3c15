"""Which of the candidates are objects: clear borders, smooth outlines, no two nearly alike."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import (
    binary_dilation,
    binary_fill_holes,
    distance_transform_edt,
    find_objects,
    gaussian_filter,
    label,
)

from lib.regions.merging import MergeTree
from lib.regions.supervoxels import Supervoxels
from lib.volumes.objects import Box

Array = np.ndarray
Candidate = tuple[Box, Array]
"""Where, and a mask of that box."""
MARGIN = 4
"""Voxels around a region that its outline may use."""
NOISE_HEIGHT = 1.0
"""Cost of a merge that noise alone may cause."""
STRONG_EDGE = 0.6
"""Gradient per voxel, in units of the noise, above which a border is seen."""
EDGE_FLOOR = 0.1
"""Added to edge strengths before they are compared."""
THIN_VOXELS = 3.0
"""What is nowhere deeper than this is thin."""
THIN_INSIDE = 0.1
"""Edges taken to be inside a thin thing, relative to those of its border."""


@dataclass(frozen=True)
class Limits:
    """What a region must be to become an object.

    Attributes:
        volume_mm3: smallest and largest size.
        max_share: largest share of the body.
        min_contrast: mean edge strength along its border, in units of the noise.
        max_rim: share of its surface on the volume's border.
        min_kept: Dice of a region before and after its outline is smoothed.
        min_score: log odds of being an object, as `judge` scores it.
        overlap: of two regions that overlap more (IoU), the better one is kept.
        per_octave: most regions per doubling of the size.
    """

    volume_mm3: tuple[float, float] = (200.0, 1.5e6)
    max_share: float = 0.35
    min_contrast: float = 0.8
    max_rim: float = 0.15
    min_kept: float = 0.75
    min_score: float = 0.0
    overlap: float = 0.6
    per_octave: int = 12


@dataclass(frozen=True)
class Region:
    """A candidate for an object.

    Attributes:
        box: where.
        mask: (i, j, k) bool, of the box.
        score: how clear it is.
    """

    box: Box
    mask: Array
    score: float


def node_candidates(tree: MergeTree, labels: Array, voxels: tuple[float, float], count: int) -> Iterator[Candidate]:
    """The clear and stable nodes of a merge tree.

    Args:
        tree: Of the supervoxels.
        labels: (i, j, k) the supervoxels.
        voxels: Smallest and largest size.
        count: Most nodes per doubling of the size.
    """
    rank = np.zeros(len(tree.order) + 1, np.int32)
    rank[tree.order] = np.arange(1, len(tree.order) + 1)
    ranks = rank[labels]
    boxes = find_objects(ranks)
    for node in choose_nodes(tree, score_nodes(tree, voxels), count):
        first, last = int(tree.first[node]), int(tree.last[node])
        box = joined(boxes[first:last], labels.shape)
        yield box, (ranks[box] > first) & (ranks[box] <= last)


def score_nodes(tree: MergeTree, voxels: tuple[float, float]) -> Array:
    """(M,) how clear and stable each node is, 0 to 1."""
    faces = np.maximum(tree.faces, 1)
    contrast, strong = tree.strength / faces, tree.strong / faces
    lost = np.where(tree.parent > 0, tree.height[tree.parent], np.inf)
    stable = 1 - 1 / np.maximum(lost / np.maximum(tree.height, NOISE_HEIGHT), 1)
    score = strong**3 * contrast / (contrast + 0.5) * (0.3 + 0.7 * stable)
    fits = (tree.voxels >= voxels[0]) & (tree.voxels <= voxels[1])
    fits[0] = False
    return np.where(fits, score, 0.0)


def choose_nodes(tree: MergeTree, scores: Array, count: int, overlap: float = 0.75) -> list[int]:
    """The best nodes, up to ``count`` per doubling of the size; of nearly equal ones the best."""
    taken = np.zeros(len(scores), bool)
    best_below = np.zeros(len(scores))  # size of the largest chosen node below
    found: Counter[int] = Counter()
    chosen = []
    for node in np.argsort(-scores, kind="stable").tolist():
        if scores[node] <= 0:
            break
        octave = int(np.log2(tree.voxels[node]))
        if found[octave] == count or best_below[node] > overlap * tree.voxels[node]:
            continue
        above, path = int(tree.parent[node]), []
        while above and not taken[above]:
            path.append(above)
            above = int(tree.parent[above])
        if above and tree.voxels[node] > overlap * tree.voxels[above]:
            continue
        taken[node] = True
        found[octave] += 1
        chosen.append(node)
        for up in path:
            best_below[up] = max(best_below[up], tree.voxels[node])
    return chosen


def body_candidates(bodies: Array, voxels: tuple[float, float]) -> Iterator[Candidate]:
    """The labels of a volume that have between ``voxels`` voxels."""
    sizes = np.bincount(bodies.ravel())
    for number, inner in enumerate(find_objects(bodies), start=1):
        if inner is not None and voxels[0] <= sizes[number] <= voxels[1]:
            box = joined([inner], bodies.shape)
            yield box, bodies[box] == number


def joined(boxes: list[Box], shape: tuple[int, ...]) -> Box:
    """The box around boxes, with a margin."""
    return tuple(
        slice(max(min(b[axis].start for b in boxes) - MARGIN, 0), min(max(b[axis].stop for b in boxes) + MARGIN, n))
        for axis, n in enumerate(shape)
    )


def judge(
    candidates: Iterable[Candidate], supervoxels: Supervoxels, sigmas: tuple[float, ...], limits: Limits
) -> Iterator[Region]:
    """Smooths outlines and keeps what has a clear border and is one thing.

    The score's weights are those of a logistic regression: which candidates are organs, on CT with labelled organs that
    no weights are trained on.
    """
    for box, mask in candidates:
        smooth = smooth_outline(mask, sigmas)
        kept = dice(mask, smooth)
        if kept < limits.min_kept:
            continue
        edges = supervoxels.edges[box]
        contrast, weakest, rim = border_of(smooth, box, edges, supervoxels.edges.shape)
        if contrast < limits.min_contrast or rim > limits.max_rim:
            continue
        depth = distance_transform_edt(np.pad(smooth, 1))[1:-1, 1:-1, 1:-1]
        inside, second = float(edges[depth > 2].mean()) if depth.max() > 2 else 0.0, second_core(depth)
        if depth.max() < THIN_VOXELS:  # the inside of a thin thing is all border
            inside, second = contrast * THIN_INSIDE, 0.0
        score = (
            7.0 * kept
            + 0.6 * np.log((contrast + EDGE_FLOOR) / (inside + EDGE_FLOOR))
            + 0.6 * np.log((weakest + EDGE_FLOOR) / (inside + EDGE_FLOOR))
            + 6.2 * share_apart(smooth, supervoxels.smooth[box], depth)
            - 3.7 * second
            - 13.5
        )
        if score >= limits.min_score:
            yield Region(box, smooth, float(score))


def border_of(mask: Array, box: Box, edges: Array, shape: tuple[int, ...]) -> tuple[float, float, float]:
    """Mean and 10th percentile of the edge strength along a border, and the share of it on the volume's border.

    Args:
        mask: (i, j, k) bool, of the box.
        box: Where in the volume.
        edges: (i, j, k) of the box.
        shape: Of the volume.
    """
    rim, heights = 0, []
    for axis in range(3):
        turned, height = np.moveaxis(mask, axis, 0), np.moveaxis(edges, axis, 0)
        at = turned[:-1] != turned[1:]
        heights.append(np.maximum(height[:-1][at], height[1:][at]))
        rim += np.count_nonzero(turned[0]) if box[axis].start == 0 else 0
        rim += np.count_nonzero(turned[-1]) if box[axis].stop == shape[axis] else 0
    found = np.concatenate(heights)
    if not found.size:
        return 0.0, 0.0, 1.0
    return float(found.mean()), float(np.quantile(found, 0.1)), rim / (found.size + rim)


def share_apart(mask: Array, smooth: Array, depth: Array) -> float:
    """Share of the surroundings that differ clearly from the inside.

    Args:
        mask: (i, j, k) bool.
        smooth: (i, j, k) denoised intensities, noise 1.
        depth: (i, j, k) distance to the outside, voxels.
    """
    inner = smooth[depth > min(1.5, depth.max() / 2)]
    near = binary_dilation(mask)
    around = smooth[binary_dilation(near) & ~near]
    return float(np.mean(np.abs(around - inner.mean()) > 1.5 * inner.std() + 0.5)) if around.size else 0.0


def choose_regions(regions: Iterable[Region], limits: Limits) -> list[Region]:
    """The best first, up to a number per doubling of the size; of nearly equal ones the best."""
    chosen: list[Region] = []
    found: Counter[int] = Counter()
    for region in sorted(regions, key=lambda one: -one.score):
        octave = int(np.log2(np.count_nonzero(region.mask)))
        if found[octave] < limits.per_octave and all(iou(region, other) <= limits.overlap for other in chosen):
            chosen.append(region)
            found[octave] += 1
    return chosen


def iou(first: Region, second: Region) -> float:
    """Overlap of two regions of one volume, 0 to 1."""
    low = [max(a.start, b.start) for a, b in zip(first.box, second.box, strict=True)]
    high = [min(a.stop, b.stop) for a, b in zip(first.box, second.box, strict=True)]
    if any(start >= stop for start, stop in zip(low, high, strict=True)):
        return 0.0
    one, two = (
        region.mask[tuple(slice(a - s.start, b - s.start) for a, b, s in zip(low, high, region.box, strict=True))]
        for region in (first, second)
    )
    common = np.count_nonzero(one & two)
    return common / (np.count_nonzero(first.mask) + np.count_nonzero(second.mask) - common)


def smooth_outline(mask: Array, sigmas: tuple[float, ...]) -> Array:
    """The largest piece of a mask, without thin outgrowths and small holes."""
    filled = binary_fill_holes(mask)
    if np.count_nonzero(filled) > 1.15 * np.count_nonzero(mask):
        filled = mask
    smooth = gaussian_filter(filled.astype(np.float32), sigmas, mode="nearest") > 0.5
    return largest_piece(smooth)


def largest_piece(mask: Array) -> Array:
    """The largest connected component (faces)."""
    pieces, count = label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return pieces == sizes.argmax()


def second_core(depth: Array) -> float:
    """Size of the second largest core relative to the largest; 0 for one thing, towards 1 for two joined ones."""
    sizes = np.sort(np.bincount(label(depth > 0.5 * depth.max())[0].ravel())[1:])
    return float(sizes[-2] / sizes[-1]) if len(sizes) > 1 else 0.0


def dice(first: Array, second: Array) -> float:
    """Overlap of two masks, 0 to 1."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else 0.0
