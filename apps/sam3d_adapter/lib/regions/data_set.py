"""Objects found in real volumes without labels, as ``*.npz`` to train on."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

from lib.regions.candidates import Region
from lib.regions.find import draw_scale, find_regions
from lib.regions.intensity import Modality
from lib.volumes.objects import Objects, Piece, join_pieces, volume_of_seed, write_training_volume
from lib.volumes.read import read_array

logger = logging.getLogger(__name__)
Array = np.ndarray
MAX_VOXELS = 4_000_000
ATTEMPTS = 6
SHARES = {"large": 0.35, "medium": 0.4, "small": 0.25}
"""How often regions are drawn, by their size."""
SIZES_MM3 = (3e3, 5e4)
"""Largest volume of a small and of a medium region."""
VETO_IOU = (0.2, 0.7)
"""A region that overlaps a known object this much cuts it in half, or is half of something else."""


class RegionsError(ValueError):
    """An image in which nothing can be found."""


def write_regions(out: Path, images: Sequence[Path], modality: Modality, seeds: Sequence[int]) -> None:
    """Writes one ``*.npz`` (image, affine, labels, objects, weights) per seed; existing files are kept.

    Several processes may write into one folder: each file is written atomically.

    Args:
        out: Folder; made if it is absent.
        images: Files that `lib.volumes.read` reads; the seeds take them in turn. A label file of the same name in the
            folder ``labels`` beside theirs names a known object: regions that cut through it are left out.
        modality: Of all images.
        seeds: Each draws another scale.

    Raises:
        RegionsError: An image has no region.
    """
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path, file = images[seed % len(images)], volume_of_seed(out, seed)
        if file.exists():
            continue
        image, affine = read_array(path)
        known = path.parent.with_name("labels") / path.name
        truth = read_array(known)[0] > 0 if known.exists() else None
        rng = np.random.default_rng(seed)
        image, affine, truth = fit_to_memory(rng, image, affine, truth)
        for _ in range(ATTEMPTS):
            objects = find_objects_of(image, affine, modality, rng, truth)
            if len(objects.objects):
                break
        else:
            raise RegionsError(f"{path}: no region found at {ATTEMPTS} scales; leave the image out.")
        write_training_volume(file, image, affine, **vars(objects))
        logger.info("%s from %s: %d objects", file.name, path.name, len(objects.objects))


def find_objects_of(
    image: Array, affine: Array, modality: Modality, rng: np.random.Generator, known: Array | None = None
) -> Objects:
    """The regions of a volume as objects.

    Args:
        image: (i, j, k).
        affine: (4, 4), voxel index -> RAS mm.
        modality: Of the image.
        rng: Draws the scale.
        known: (i, j, k) bool; what no region may cut through.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)

    def allowed(region: Region) -> bool:
        if known is None:
            return True
        common = np.count_nonzero(known[region.box] & region.mask)
        union = np.count_nonzero(known) + np.count_nonzero(region.mask) - common
        return not VETO_IOU[0] < common / union < VETO_IOU[1]

    regions = find_regions(image, spacing, modality, draw_scale(rng), allowed=allowed)
    pieces = []
    for region in regions:
        volume = np.count_nonzero(region.mask) * float(np.prod(spacing))
        kind = ("small", "medium", "large")[int(np.searchsorted(SIZES_MM3, volume))]
        pieces.append(Piece(kind, region.box, region.mask))
    return join_pieces(pieces, image.shape, SHARES)


def fit_to_memory(
    rng: np.random.Generator, image: Array, affine: Array, known: Array | None, max_voxels: int = MAX_VOXELS
) -> tuple[Array, Array, Array | None]:
    """Halves the resolution along the finest axes, then crops at random, until a volume has few enough voxels.

    Args:
        rng: Draws the place of a crop.
        image: (i, j, k).
        affine: (4, 4), voxel index -> RAS mm.
        known: (i, j, k) bool or None; goes along.
        max_voxels: As many.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if image.size > max_voxels and spacing.min() < 1.5:
        step = np.where(spacing < 1.9 * spacing.min(), 2, 1)
        image = zoom(image.astype(np.float32), 1 / step, order=1, grid_mode=True, mode="nearest").astype(image.dtype)
        known = None if known is None else zoom(known, 1 / step, order=0, grid_mode=True, mode="nearest")
        shift = np.eye(4)
        shift[:3, :3] = np.diag(step)
        shift[:3, 3] = (step - 1) / 2
        affine = affine @ shift
    shape = np.array(image.shape)
    while np.prod(shape) > max_voxels:
        shape[shape.argmax()] = max_voxels / np.prod(np.delete(shape, shape.argmax()))
    start = rng.integers(0, np.array(image.shape) - shape + 1)
    box = tuple(slice(int(a), int(a + n)) for a, n in zip(start, shape, strict=True))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ start
    return image[box], moved, None if known is None else known[box]
