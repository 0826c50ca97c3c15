"""One phantom from one seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import center_of_mass, find_objects, gaussian_filter
from scipy.ndimage import label as connected_components

from lib.phantoms.acquisition import Acquisition, draw_acquisition, scan_image
from lib.phantoms.anatomy import LIMB_CENTRE, TRUNK_CENTRES, build_limb, build_trunk
from lib.phantoms.config import PhantomConfig
from lib.phantoms.fields import smooth_noise
from lib.phantoms.lesions import GrownLesion, grow_lesions
from lib.phantoms.scene import Scene, draw_texture, paint, refine_distance

Array = np.ndarray
WARP_MM = 5.0
"""Displacement of the anatomy by smooth noise, one standard deviation along each axis."""


@dataclass(frozen=True)
class Lesion:
    """What is known of one lesion.

    Attributes:
        label: its value in ``Phantom.labels``.
        diameter_mm: diameter of the sphere of the labelled volume.
        contrast_hu: mean attenuation (outside a darker core) minus that of the tissue it grew in.
        touching: whether it abuts a structure of equal density.
        centre_ijk: labelled voxel closest to the centre of mass.
    """

    label: int
    diameter_mm: float
    contrast_hu: float
    touching: bool
    centre_ijk: tuple[int, int, int]


@dataclass(frozen=True)
class Phantom:
    """A volume with its truth.

    Attributes:
        image: (i, j, k) int16 HU.
        labels: (i, j, k) uint8; 0 = no lesion, n = lesion n.
        affine: (4, 4) float64, voxel index -> RAS mm; integer index k is the centre of voxel k.
        lesions: in ascending order of label.
        noise_hu: standard deviation of the noise in ``image``.
    """

    image: Array
    labels: Array
    affine: Array
    lesions: tuple[Lesion, ...]
    noise_hu: float

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along i, j, k, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def make_phantom(seed: int, *, config: PhantomConfig | None = None) -> Phantom:
    """Make a CT-like volume with lesions; equal arguments give equal voxels.

    Args:
        seed: any integer >= 0.
        config: ranges to draw from; None = ``PhantomConfig()``.
    """
    return scan_anatomy(draw_anatomy(seed, config or PhantomConfig()))


@dataclass(frozen=True)
class Anatomy:
    """What a phantom shows, before it is scanned.

    Attributes:
        scene: structures.
        lesions: what was grown among them; the value of ``lesions[n]`` in ``Phantom.labels`` is n + 1.
        rng: draws texture and noise next.
    """

    scene: Scene
    lesions: tuple[GrownLesion, ...]
    rng: np.random.Generator


def draw_anatomy(seed: int, config: PhantomConfig) -> Anatomy:
    """Draw structures and lesions."""
    rng = np.random.default_rng(seed)
    is_limb = rng.random() < config.limb_share
    centre = LIMB_CENTRE if is_limb else TRUNK_CENTRES[int(rng.integers(len(TRUNK_CENTRES)))]
    acquisition = draw_acquisition(rng, config, np.array(centre) + rng.uniform(-14, 14, size=3))
    scene = Scene(acquisition, warped_coords(rng, acquisition))
    (build_limb if is_limb else build_trunk)(rng, scene)
    grown = [fit_to_scan(lesion, acquisition, config) for lesion in grow_lesions(rng, scene, config)]
    return Anatomy(scene, tuple(grown), rng)


def scan_anatomy(anatomy: Anatomy) -> Phantom:
    """Scan an anatomy, once: its generator moves on."""
    rng, scene, grown = anatomy.rng, anatomy.scene, anatomy.lesions
    acquisition = scene.acquisition
    hu = scene.render(rng)
    labels = paint_lesions(rng, hu, grown, acquisition)
    image = acquisition.store(scan_image(rng, hu, acquisition))
    labels = acquisition.store(labels)
    affine = acquisition.stored_affine()
    return Phantom(image, labels, affine, describe(labels, grown, affine), acquisition.noise_hu)


def warped_coords(rng: np.random.Generator, acquisition: Acquisition) -> tuple[Array, Array, Array]:
    """Patient coordinates of the lattice points, displaced by smooth noise so that no outline is an ellipse."""
    matrix = acquisition.lattice_to_ras.astype(np.float32)
    axes = np.ogrid[tuple(slice(0, n) for n in acquisition.lattice_shape)]
    coords = []
    for row in range(3):
        line = sum(matrix[row, axis] * axes[axis].astype(np.float32) for axis in range(3)) + matrix[row, 3]
        warp = smooth_noise(rng, acquisition.lattice_shape, acquisition.lattice_mm, 55.0)
        coords.append(line + np.float32(WARP_MM) * warp)
    return coords[0], coords[1], coords[2]


def fit_to_scan(lesion: GrownLesion, acquisition: Acquisition, config: PhantomConfig) -> GrownLesion:
    """Corrects a lesion that, on the scan's voxels, exceeds the range of diameters or falls into pieces."""
    low, high = (np.pi / 6 * d**3 / np.prod(acquisition.spacing) for d in config.diameter_mm)
    for _ in range(4):
        refined = refine_distance(lesion.body, acquisition)
        if refined is None:
            return lesion
        distance = refined[1]
        count = int(np.count_nonzero(distance < 0))
        wanted = int(np.clip(count, np.ceil(low), np.floor(high)))
        level = np.float32(0)
        if wanted != count and wanted < distance.size:
            level = np.partition(distance.ravel(), wanted)[wanted]
        fitted = replace(lesion, body=replace(lesion.body, distance=lesion.body.distance - level))
        if connected_components(distance < level, structure=np.ones((3, 3, 3)))[1] <= 1:
            return fitted
        # A neck is thinner than a voxel; smoothing removes it.
        lesion = replace(fitted, body=replace(fitted.body, distance=gaussian_filter(fitted.body.distance, 1.0)))
    return lesion


def paint_lesions(rng: np.random.Generator, hu: Array, grown: Sequence[GrownLesion], acquisition: Acquisition) -> Array:
    """Paint companions, then lesions, onto ``hu`` in place; returns the labels (scan grid, uint8)."""
    labels = np.zeros(hu.shape, np.uint8)
    # Lesions and companions share one texture, so that no seam shows between equal densities.
    texture = draw_texture(rng, acquisition)
    for lesion in grown:
        if lesion.companion is not None:
            paint(hu, texture, lesion.companion, acquisition)
    for number, lesion in enumerate(grown, start=1):
        paint(hu, texture, lesion.body, acquisition)
        if lesion.core is not None:
            paint(hu, texture, lesion.core, acquisition)
        refined = refine_distance(lesion.body, acquisition)
        if refined is not None:
            box, distance = refined
            labels[box][(distance < 0) & (labels[box] == 0)] = number
    return labels


def describe(labels: Array, grown: Sequence[GrownLesion], affine: Array) -> tuple[Lesion, ...]:
    """Measure the lesions on the stored grid; those without a voxel are left out."""
    voxel_mm3 = float(abs(np.linalg.det(affine[:3, :3])))
    lesions = []
    for number, (box, lesion) in enumerate(zip(find_objects(labels, len(grown)), grown, strict=True), start=1):
        if box is None:
            continue
        mask = labels[box] == number
        voxels = np.argwhere(mask)
        middle = voxels[np.linalg.norm(voxels - np.array(center_of_mass(mask)), axis=1).argmin()]
        i, j, k = (int(m + b.start) for m, b in zip(middle, box, strict=True))
        diameter = (6 * len(voxels) * voxel_mm3 / np.pi) ** (1 / 3)
        lesions.append(Lesion(number, float(diameter), lesion.contrast_hu, lesion.companion is not None, (i, j, k)))
    return tuple(lesions)
