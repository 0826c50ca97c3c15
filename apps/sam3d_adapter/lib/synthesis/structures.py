"""What lies within an organ and is no object: bone's cortex, lung vessels, bowel content, heart chambers and so on."""

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.synthesis.scan import Grid
from lib.synthesis.tissues import Part

Array = np.ndarray


def paint_structures(
    rng: np.random.Generator,
    image: Array,
    grid: Grid,
    part: Array,
    depth: Array,
    parts: list[Part],
    value: Mapping[str, float],
    texture: Array,
) -> None:
    """Paints in place.

    Args:
        rng: Source of randomness.
        image: (x, y, z) intensities, each part painted evenly.
        grid: Fine grid.
        part: (x, y, z) part of each fine voxel.
        depth: (x, y, z) mm below the border of the part, up to some 5 mm.
        parts: What they are.
        value: Intensities; a structure without one is left out.
        texture: (x, y, z) smooth field of standard deviation 1.
    """
    tissues = {parts[p].tissue for p in np.unique(part)}

    def of(*names: str) -> Array:
        return np.array([p.tissue in names for p in parts])[part]

    def put(where: Array, name: str, spread: float = 0.0) -> None:
        if name in value:
            image[where] = np.float32(value[name]) + np.float32(spread) * texture[where]

    if "bone" in tissues:
        # Cortex 1 to 2 mm thick; thin ribs are cortex for the most part.
        bone = of("bone")
        rim = bone & (depth < rng.uniform(0.9, 2.0) + 0.3 * texture)
        put(rim, "cortex", 0.08 * abs(value.get("cortex", 0.0)))
    if "lung" in tissues:
        lung = of("lung")
        _tubes(rng, image, grid, lung, value.get("lung vessel"), 15.0, rng.uniform(0.12, 0.22))
        _tubes(rng, image, grid, lung, value.get("lung vessel"), 34.0, rng.uniform(0.08, 0.14))
        # The fissures: where two lobes meet. Elsewhere the same voxels are the pleura.
        put(lung & (depth < 0.2), "lung vessel")
    if "liver" in tissues:
        _tubes(rng, image, grid, of("liver"), value.get("liver vessel"), 38.0, rng.uniform(0.07, 0.15))
    if "kidney" in tissues:
        kidney = of("kidney")
        pyramids = kidney & (depth > 4.2) & (grid.noise(rng, 13.0) > -0.1)
        put(pyramids, "medulla")
    if "heart" in tissues:
        heart = of("heart")
        side = [s / 2 for s in grid.spacing]
        deep = gaussian_filter(heart.astype(np.float32), [rng.uniform(4, 7) / s / 2 for s in side]) > 0.8
        septum = np.abs(grid.noise(rng, 75.0)) < 0.22
        put(heart & deep & ~septum, "blood")
    if tissues & {"bowel", "colon"}:
        loops = of("bowel", "colon")
        lumen = loops & (depth > rng.uniform(1.5, 3.8))
        put(lumen, "content", 8.0 * abs(value.get("content", 0.0)) / 60.0)
        put(lumen & of("colon"), "stool", 0.3 * abs(value.get("stool", 0.0)) + 0.02 * abs(value.get("gas", 0.0)))
        bubbles = grid.noise(rng, 30.0) > rng.uniform(0.4, 1.6)
        put(lumen & bubbles, "gas")
    if "brain" in tissues:
        brain = of("brain")
        deep = gaussian_filter(brain.astype(np.float32), [7.0 / s for s in grid.spacing])
        folds = 0.9 * grid.noise(rng, 11.0)
        cortex = brain & (deep + 0.1 * folds < 0.78)
        put(cortex, "grey matter")
        put(brain & ~cortex, "white matter")
        put(brain & (deep < 0.72) & (folds > 0.9), "csf")
    if "muscle" in tissues:
        # Thin planes of fat between muscles.
        plane = of("muscle") & (depth < rng.uniform(0.0, 0.35) + 0.08 * texture)
        if "fat" in value:
            image[plane] += np.float32(0.6) * (np.float32(value["fat"]) - image[plane])
    if "fat" in tissues and "muscle" in value:
        strands = of("fat") & (np.abs(grid.noise(rng, 17.0)) < rng.uniform(0.0, 0.05))
        image[strands] += np.float32(rng.uniform(0.2, 0.5)) * (np.float32(value["muscle"]) - image[strands])


def _tubes(
    rng: np.random.Generator,
    image: Array,
    grid: Grid,
    where: Array,
    value: float | None,
    wavelength_mm: float,
    width: float,
) -> None:
    """Paints thin winding tubes: the lines where two smooth random fields are both zero."""
    if value is None:
        return
    first, second = grid.noise(rng, wavelength_mm), grid.noise(rng, wavelength_mm)
    first *= first
    second *= second
    first += second
    tubes = where & (first < width**2)
    image[tubes] = np.float32(value)
