"""Lesions: irregular bodies grown in a host tissue, some against a structure of their own density."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label as connected_components
from scipy.spatial.transform import Rotation
from scipy.stats import truncnorm

from lib.phantoms.acquisition import LATTICE_MARGIN_MM
from lib.phantoms.anatomy import HOSTS
from lib.phantoms.config import PhantomConfig
from lib.phantoms.fields import smooth_noise
from lib.phantoms.scene import Scene, Structure
from lib.phantoms.shapes import unite_smooth

Array = np.ndarray
SHELL_POINTS = 160
"""Directions in which the surroundings of a place are looked at."""
HOST_SHARE = 0.5
"""Share of the surroundings that must be one tissue for it to count as the host."""
CONTACT_SHARE = (0.1, 0.45)
"""Share of a touching lesion's surface that borders on the structure of equal density."""
SKIN_MM = 4.0
"""Depth below the skin that lesions leave free."""


@dataclass(frozen=True)
class Site:
    """Where a lesion grows: centre in lattice indices, diameter in mm, index of the host in the scene."""

    centre: Array
    diameter_mm: float
    host: int


@dataclass(frozen=True)
class GrownLesion:
    """A lesion before it is rendered.

    Attributes:
        body: its shape and density.
        core: darker part of the body, or None.
        companion: the structure of equal density it abuts, or None.
        contrast_hu: density of the body (without core) minus that of the host.
    """

    body: Structure
    core: Structure | None
    companion: Structure | None
    contrast_hu: float


def grow_lesions(rng: np.random.Generator, scene: Scene, config: PhantomConfig) -> list[GrownLesion]:
    """Draw and place the lesions of a scene, the largest first so that each finds room."""
    count = int(rng.integers(config.lesion_count[0], config.lesion_count[1] + 1))
    diameters = np.sort(draw_diameters(rng, count, config))[::-1]
    sites: list[Site] = []
    for diameter in diameters:
        site = find_site(rng, scene, float(diameter), sites)
        if site is not None:
            sites.append(site)
    return [grow_lesion(rng, scene, site, [o for o in sites if o is not site], config) for site in sites]


def draw_diameters(rng: np.random.Generator, count: int, config: PhantomConfig) -> Array:
    """(count,) diameters, mm, within the range by a margin for what the voxels of the scan change."""
    middle, spread = np.log(config.median_diameter_mm), config.diameter_spread
    low, high = (np.log(np.array(config.diameter_mm) * (1.04, 0.98)) - middle) / spread
    return np.exp(middle + spread * truncnorm.rvs(low, high, size=count, random_state=rng))


def directions(rng: np.random.Generator, count: int) -> Array:
    """(count, 3) unit vectors, uniform on the sphere."""
    vectors = rng.standard_normal((count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def find_site(rng: np.random.Generator, scene: Scene, diameter_mm: float, taken: list[Site]) -> Site | None:
    """Find a place whose surroundings are mostly one host tissue; None if there is no room."""
    step = scene.acquisition.lattice_mm
    radius = diameter_mm / 2
    is_host = np.array([structure.name in HOSTS for structure in scene.structures] + [False])
    reach = (1.3 * radius + LATTICE_MARGIN_MM) / step
    low = np.minimum(reach, np.array(scene.tissue.shape) / 2 - 1)
    shell = directions(rng, SHELL_POINTS) * (1.2 * radius / step)
    best, best_share = None, 0.0
    for _ in range(400):
        centre = rng.uniform(low, np.array(scene.tissue.shape) - 1 - low)
        nearest = tuple(np.rint(centre).astype(int))
        if not is_host[scene.tissue[nearest]] or scene.depth[nearest] > -min(0.85 * radius, 45.0):
            continue
        if any(
            np.linalg.norm(centre - other.centre) * step < 0.72 * (diameter_mm + other.diameter_mm) + 4
            for other in taken
        ):
            continue
        around = np.clip(np.rint(centre + shell).astype(int), 0, np.array(scene.tissue.shape) - 1)
        tissues = scene.tissue[tuple(around.T)]
        counts = np.bincount(tissues + 1, minlength=len(scene.structures) + 1)[1:]
        counts = np.where(is_host[:-1], counts, 0)
        host = int(counts.argmax())
        share = counts[host] / SHELL_POINTS
        if share > best_share:
            best, best_share = Site(centre, diameter_mm, host), share
        if share >= HOST_SHARE + 0.2 * rng.random():
            break
    # A large mass seldom has one tissue all around it; then the most common one is its host.
    return best if best_share >= min(HOST_SHARE, 0.25 + 2.0 / diameter_mm) else None


def lump(rng: np.random.Generator, shape: tuple[int, int, int], centre: Array, radius: float, step_mm: float) -> Array:
    """Draw an irregular body of the volume of a sphere.

    Args:
        rng: source of randomness.
        shape: grid.
        centre: grid indices.
        radius: mm, of that sphere.
        step_mm: grid step.

    Returns:
        Distance field, mm, negative inside.
    """
    axes = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    coords = np.stack(
        [(axis - np.float32(c)) * np.float32(step_mm / radius) for axis, c in zip(axes, centre, strict=True)]
    )
    field = np.full(shape, 1e3, np.float32)
    for lobe in range(int(rng.integers(1, 5))):
        turned = np.tensordot(Rotation.random(random_state=rng).as_matrix().astype(np.float32), coords, axes=1)
        offset = (0.0 if lobe == 0 else rng.uniform(0.45, 0.85)) * directions(rng, 1)[0]
        size = rng.uniform(0.7, 1.35, size=3) * (1.0 if lobe == 0 else rng.uniform(0.45, 0.75))
        inside = np.sqrt(
            sum(((t - o) / s) ** 2 for t, o, s in zip(turned, np.broadcast_to(offset, 3), size, strict=True))
        )
        inside = ((inside - 1) * float(size.min())).astype(np.float32)
        field = unite_smooth(field, inside, 0.12)
    roughness = rng.uniform(0.06, 0.17)
    field = field + roughness * smooth_noise(rng, shape, step_mm, max(0.5 * radius, 2.0 * step_mm))
    field += 0.35 * roughness * smooth_noise(rng, shape, step_mm, max(0.22 * radius, 1.5 * step_mm))
    # The level that encloses the wanted volume; the field is about a distance, so it stays one.
    voxels = min(max(int(round(4 / 3 * np.pi * (radius / step_mm) ** 3)), 4), field.size - 2)
    ordered = np.partition(field.ravel(), [voxels - 1, voxels])
    field -= (ordered[voxels - 1] + ordered[voxels]) / 2
    return field * np.float32(radius)


def local_structure(
    rng: np.random.Generator, scene: Scene, centre: Array, radius: float, hu: float, texture_hu: float
) -> Structure:
    """An irregular body, kept below the skin, on the part of the lattice that it needs."""
    step = scene.acquisition.lattice_mm
    reach = 2.3 * radius / step + 3
    low = np.floor(centre - reach).astype(int)
    size = int(2 * reach) + 2
    for _ in range(8):
        distance = lump(rng, (size, size, size), centre - low, radius, step)
        inner = distance[1:-1, 1:-1, 1:-1]
        # A body that the box cuts off would have flat sides.
        if np.count_nonzero(distance < 0) == np.count_nonzero(inner < 0):
            break
    start = np.maximum(low, 0)
    stop = np.minimum(low + size, scene.depth.shape)
    distance = distance[tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, low, strict=True))]
    skin = scene.depth[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    distance = np.maximum(distance, skin + np.float32(SKIN_MM))
    pieces, count = connected_components(distance < 0)
    if count > 1:
        largest = 1 + int(np.bincount(pieces.ravel())[1:].argmax())
        distance = np.where((pieces > 0) & (pieces != largest), np.float32(step), distance)
    return Structure("lesion", hu, texture_hu, (int(start[0]), int(start[1]), int(start[2])), distance)


def sample(structure: Structure, points: Array) -> Array:
    """Distance at (n, 3) lattice points (nearest); far outside the structure's box a positive number."""
    index = np.rint(points).astype(int) - np.array(structure.origin)
    valid = np.all((index >= 0) & (index < structure.distance.shape), axis=1)
    values = np.full(len(points), 1e3, np.float32)
    values[valid] = structure.distance[tuple(index[valid].T)]
    return values


def grow_lesion(
    rng: np.random.Generator, scene: Scene, site: Site, others: list[Site], config: PhantomConfig
) -> GrownLesion:
    """Draw the lesion of one site, and what it touches, which keeps away from the other sites."""
    low, high = config.contrast_hu
    faintest = float(np.clip(config.visible_hu_mm / site.diameter_mm, low, high))
    contrast = float(rng.uniform(faintest, high) * rng.choice([-1, 1]))
    hu = scene.structures[site.host].hu + contrast
    texture_hu = float(rng.uniform(2, 6))
    radius = site.diameter_mm / 2
    body = local_structure(rng, scene, site.centre, radius, hu, texture_hu)
    companion = None
    if rng.random() < config.touching_share:
        companion = grow_companion(rng, scene, body, site, others, hu, texture_hu)
    core = None
    if site.diameter_mm >= 20 and rng.random() < config.necrotic_share:
        depth = rng.uniform(0.3, 0.5) * radius
        hollow = (
            body.distance
            + depth
            + 0.15
            * radius
            * smooth_noise(rng, body.distance.shape, scene.acquisition.lattice_mm, max(0.6 * radius, 4.0))
        )
        core = Structure(
            "core", hu - rng.uniform(12, 35), texture_hu, body.origin, np.maximum(hollow, body.distance + 2)
        )
    return GrownLesion(body, core, companion, contrast)


def grow_companion(
    rng: np.random.Generator,
    scene: Scene,
    body: Structure,
    site: Site,
    others: list[Site],
    hu: float,
    texture_hu: float,
) -> Structure | None:
    """Draw a structure of equal density against the body; None if none comes to lie in contact."""
    step = scene.acquisition.lattice_mm
    surface = np.argwhere(np.abs(body.distance - 0.5 * step) < 0.5 * step) + np.array(body.origin)
    radius = site.diameter_mm / 2
    for _ in range(40):
        own_radius = float(np.clip(rng.uniform(0.6, 1.5) * radius, 7.0, 38.0))
        direction = directions(rng, 1)[0]
        centre = site.centre + direction * (0.9 * radius + rng.uniform(0.4, 0.85) * own_radius) / step
        inside = np.all((centre >= 0) & (centre <= np.array(scene.tissue.shape) - 1))
        if not inside or scene.depth[tuple(np.rint(centre).astype(int))] > -0.5 * own_radius:
            continue
        gaps = [np.linalg.norm(centre - o.centre) * step - own_radius - 0.5 * o.diameter_mm for o in others]
        if min(gaps, default=99.0) < 4.0:
            continue
        companion = local_structure(rng, scene, centre, own_radius, hu, texture_hu)
        contact = float(np.mean(sample(companion, surface) < 0)) if len(surface) else 0.0
        if CONTACT_SHARE[0] <= contact <= CONTACT_SHARE[1]:
            return companion
    return None
