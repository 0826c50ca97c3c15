"""A scene: structures in painting order, and their rendering onto the scan grid."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import find_objects

from lib.phantoms.acquisition import Acquisition
from lib.phantoms.fields import resample_grid, smooth_noise
from lib.phantoms.shapes import FAR_MM

Array = np.ndarray
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Structure:
    """One painted shape.

    Attributes:
        name: tissue.
        hu: mean attenuation.
        texture_hu: standard deviation of the low-frequency variation within it.
        origin: lattice index of ``distance[0, 0, 0]``.
        distance: signed distance, mm, on a box of the lattice.
        part_of: index into ``Scene.structures`` of what it is a part of; -1 = it stands alone.
        rendered: False = it only divides what it is a part of, whose density it has.
    """

    name: str
    hu: float
    texture_hu: float
    origin: tuple[int, int, int]
    distance: Array
    part_of: int = -1
    rendered: bool = True


@dataclass
class Scene:
    """Structures of one phantom on the lattice of its acquisition.

    Attributes:
        acquisition: the scan.
        coords: patient right, anterior, superior of every lattice point, mm, slightly warped: no outline is regular.
        structures: painted first to last.
        tissue: (lattice) index into ``structures`` of what is on top; -1 = air around the body.
        depth: (lattice) distance to the skin, mm, negative inside.
    """

    acquisition: Acquisition
    coords: tuple[Array, Array, Array]
    structures: list[Structure] = field(default_factory=list)
    tissue: Array = field(default_factory=lambda: np.empty(0, np.int16))
    depth: Array = field(default_factory=lambda: np.empty(0, np.float32))

    def __post_init__(self) -> None:
        self.tissue = np.full(self.acquisition.lattice_shape, -1, np.int16)

    def empty_field(self) -> Array:
        """A distance field with nothing in it."""
        return np.full(self.acquisition.lattice_shape, FAR_MM, np.float32)

    def noise(self, rng: np.random.Generator, wavelength_mm: float) -> Array:
        """A smooth random field on the lattice, standard deviation 1."""
        return smooth_noise(rng, self.acquisition.lattice_shape, self.acquisition.lattice_mm, wavelength_mm)

    def add(
        self,
        name: str,
        hu: float,
        distance: Array,
        *,
        texture_hu: float = 0.0,
        part_of: int = -1,
        rendered: bool = True,
    ) -> int:
        """Paint a shape over what is there. ``distance`` covers the whole lattice.

        Returns:
            Its index into ``structures``; -1 = nothing of it is in the scan.
        """
        near = (distance < 2 * self.acquisition.lattice_mm).view(np.uint8)
        boxes = find_objects(near)
        if not boxes:
            return -1
        box: Box = boxes[0]
        cropped = np.ascontiguousarray(distance[box], dtype=np.float32)
        origin = (box[0].start, box[1].start, box[2].start)
        if rendered:
            self.tissue[box][cropped < 0] = len(self.structures)
        self.structures.append(Structure(name, float(hu), float(texture_hu), origin, cropped, part_of, rendered))
        return len(self.structures) - 1

    def render(self, rng: np.random.Generator) -> Array:
        """Paint every structure on the scan grid.

        Returns:
            (x, y, z) float32 HU without blur and noise; border voxels hold the mixture of both tissues.
        """
        hu = np.full(self.acquisition.shape, -1000.0, np.float32)
        texture = draw_texture(rng, self.acquisition)
        for structure in self.structures:
            if structure.rendered:
                paint(hu, texture, structure, self.acquisition)
        return hu

    def visible(self, structures: Sequence[Structure]) -> Array:
        """(x, y, z) int16, scan grid: index into ``structures`` of what is on top; -1 = none of them."""
        on_top = np.full(self.acquisition.shape, -1, np.int16)
        for index, structure in enumerate(structures):
            refined = refine_distance(structure, self.acquisition)
            if refined is not None:
                on_top[refined[0]][refined[1] < 0] = index
        return on_top


def draw_texture(rng: np.random.Generator, acquisition: Acquisition) -> Array:
    """A low-frequency field of standard deviation 1 on the scan grid: perfusion and fat differ within an organ."""
    shape, step = acquisition.lattice_shape, acquisition.lattice_mm
    coarse = 0.8 * smooth_noise(rng, shape, step, 24.0) + 0.6 * smooth_noise(rng, shape, step, 9.0)
    indices = (acquisition.lattice_index(0), acquisition.lattice_index(1), acquisition.lattice_index(2))
    return resample_grid(coarse, indices)


def refine_distance(structure: Structure, acquisition: Acquisition) -> tuple[Box, Array] | None:
    """Distance on the scan voxels that a structure's box covers; None if it covers none."""
    slices, indices = [], []
    for axis, (origin, size) in enumerate(zip(structure.origin, structure.distance.shape, strict=True)):
        index = acquisition.lattice_index(axis)
        start, stop = np.searchsorted(index, [origin, origin + size - 1])
        if start >= stop:
            return None
        slices.append(slice(int(start), int(stop)))
        indices.append((index[start:stop] - origin).astype(np.float32))
    box = (slices[0], slices[1], slices[2])
    return box, resample_grid(structure.distance, (indices[0], indices[1], indices[2]))


def paint(hu: Array, texture: Array, structure: Structure, acquisition: Acquisition) -> None:
    """Paint one structure onto ``hu`` (scan grid), in place."""
    refined = refine_distance(structure, acquisition)
    if refined is None:
        return
    box, share = refined
    # A voxel that the surface cuts holds both tissues in proportion (partial volume).
    share *= -1.0 / acquisition.spacing[0]
    share += 0.5
    np.clip(share, 0, 1, out=share)
    target = hu[box]
    if structure.texture_hu:
        value = texture[box] * np.float32(structure.texture_hu)
        value += np.float32(structure.hu)
        value -= target
    else:
        value = np.float32(structure.hu) - target
    value *= share
    target += value
