"""Lesions in organs and soft tissue: where they lie and how they look inside."""

from dataclasses import dataclass

import numpy as np

from lib.phantoms.fields import resample_grid
from lib.phantoms.lesions import lump
from lib.synthesis.scan import Grid
from lib.synthesis.tissues import Part

Array = np.ndarray
Box = tuple[slice, slice, slice]
HOSTS = frozenset(
    {"liver", "spleen", "kidney", "pancreas", "lung", "muscle", "fat", "soft tissue", "bone", "skull", "marrow"}
    | {"prostate", "thyroid", "heart", "bladder", "bowel", "colon", "salivary gland", "adrenal gland", "scalp"}
    | {"brain", "brainstem", "white matter", "grey matter"}
)
"""Tissues that lesions lie in."""
TRIES = 3
LUMP_VOXELS = 44
"""Side of the grid on which a shape is drawn."""


@dataclass(frozen=True)
class Lesion:
    """A lesion that is painted.

    Attributes:
        part: Its index among the parts.
        host: Index of the part it lies in.
        diameter_mm: Of the sphere it was drawn from; what it shows may be less.
        box: Fine voxels around it.
        mask: Voxels of the box that belong to it.
        depth: Distance below its surface over its radius, 0 at the surface.
    """

    part: int
    host: int
    diameter_mm: float
    box: Box
    mask: Array
    depth: Array


def place_lesions(
    rng: np.random.Generator, grid: Grid, part: Array, parts: list[Part], count: int, diameter_mm: tuple[float, float]
) -> list[Lesion]:
    """Draws lesions into ``part`` and appends them to ``parts``, both in place.

    Args:
        rng: Source of randomness.
        grid: Fine grid.
        part: (x, y, z) part of each fine voxel.
        parts: What they are.
        count: Lesions to try; one without room is left out.
        diameter_mm: Least and largest diameter.
    """
    found: list[Lesion] = []
    present = np.flatnonzero(np.bincount(part.ravel(), minlength=len(parts)) * np.prod(grid.spacing) > 3e3)
    hosts = [int(p) for p in present if parts[p].tissue in HOSTS]
    for _ in range(count if hosts else 0):
        # Each tissue as often as any other: a volume may hold a hundred muscles and one liver.
        tissues = sorted({parts[p].tissue for p in hosts})
        tissue = tissues[int(rng.integers(len(tissues)))]
        choices = [p for p in hosts if parts[p].tissue == tissue]
        host = choices[int(rng.integers(len(choices)))]
        for _ in range(TRIES):
            lesion = _place(rng, grid, part, host, len(parts), diameter_mm)
            if lesion is not None:
                parts.append(Part("lesion", "lesion", "lesion", host=host))
                found.append(lesion)
                break
    return found


def _place(
    rng: np.random.Generator, grid: Grid, part: Array, host: int, number: int, diameter_mm: tuple[float, float]
) -> Lesion | None:
    places = np.flatnonzero(part.ravel() == host)
    volume = len(places) * float(np.prod(grid.spacing))
    largest = min(diameter_mm[1], 0.8 * (6 / np.pi * volume) ** (1 / 3))
    smallest = max(diameter_mm[0], 3.2 * max(grid.scan.spacing) ** (1 / 3) * min(grid.scan.spacing) ** (2 / 3))
    if largest <= smallest:
        return None
    diameter = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
    centre = np.array(np.unravel_index(int(rng.choice(places)), part.shape))
    radius = diameter / 2
    step = 2 * 2.2 * radius / (LUMP_VOXELS - 1)
    middle = (LUMP_VOXELS - 1) / 2
    distance = lump(rng, (LUMP_VOXELS,) * 3, np.full(3, middle), radius, step)
    reach = np.ceil(2.1 * radius / np.array(grid.spacing)).astype(int)
    low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, part.shape)
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    x, y, z = (
        (np.arange(a, b) - c) * (s / step) + middle for a, b, c, s in zip(low, high, centre, grid.spacing, strict=True)
    )
    distance = resample_grid(distance, (x, y, z))
    inside = part[box]
    # Most lesions stop at the border of their organ; nothing grows into air or another lesion.
    mask = (distance < 0) & (inside == host)
    if np.count_nonzero(mask) * np.prod(grid.spacing) < 0.35 * np.pi / 6 * diameter**3:
        return None
    part[box][mask] = number
    return Lesion(number, host, diameter, box, mask, -distance / np.float32(radius))


def paint_lesion(
    rng: np.random.Generator,
    image: Array,
    lesion: Lesion,
    values: tuple[float, float, float],
    texture: Array,
    texture_sd: float,
) -> None:
    """Paints a lesion in place, sometimes with a core or a rim.

    Args:
        rng: Source of randomness.
        image: (x, y, z) intensities.
        lesion: What is painted.
        values: Intensity of the solid part, a necrotic core, and an enhancing rim.
        texture: (x, y, z) smooth field of standard deviation 1.
        texture_sd: Standard deviation of the intensity within the lesion.
    """
    solid, core, rim = values
    look = np.full(lesion.mask.shape, np.float32(solid))
    texture = texture[lesion.box]
    chance = rng.random()
    if lesion.diameter_mm > 12 and chance < 0.45:
        look[lesion.depth + rng.uniform(0, 0.2) * texture > rng.uniform(0.25, 0.55)] = core
    if 0.25 < chance < 0.6:
        look[lesion.depth < rng.uniform(0.1, 0.22)] = rim
    look += np.float32(texture_sd) * texture
    image[lesion.box][lesion.mask] = look[lesion.mask]
