"""Geometry of a scan of an anatomy: field of view, voxels, and where each voxel lies in the label map."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from scipy.special import ndtri

from lib.phantoms.acquisition import ORDERS, Acquisition
from lib.phantoms.fields import resample_grid, smooth_noise
from lib.synthesis.anatomy import BLUR_VOXELS, FILLING, SURFACE_STEP, Anatomy

Array = np.ndarray
Triple = tuple[int, int, int]
WARP_STEP_MM = 12.0
MAX_VOXELS = 3_000_000
MAX_FINE_VOXELS = 4_500_000
MOST_SHARE = 0.993
"""Of a part, at which the depth below its border ends: the blur is hardly felt there."""


@dataclass(frozen=True)
class Grid:
    """Fine grid on which the anatomy is painted, and the scan that averages it.

    Attributes:
        scan: Geometry of the stored volume. RAS is the label map's, its first voxel being the origin.
        factor: Fine voxels per scan voxel along each axis.
    """

    scan: Acquisition
    factor: Triple

    @property
    def shape(self) -> Triple:
        """Fine voxels along x, y, z."""
        x, y, z = (n * f for n, f in zip(self.scan.shape, self.factor, strict=True))
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Sides of a fine voxel, mm."""
        x, y, z = (s / f for s, f in zip(self.scan.spacing, self.factor, strict=True))
        return x, y, z

    def average(self, fine: Array) -> Array:
        """Mean over the fine voxels of each scan voxel."""
        x, y, z = self.scan.shape
        a, b, c = self.factor
        if self.factor == (1, 1, 1):
            return fine
        return fine.reshape(x, a, y, b, z, c).mean(axis=(1, 3, 5), dtype=np.float32)

    def majority(self, fine: Array) -> Array:
        """Most frequent value of the fine voxels of each scan voxel."""
        x, y, z = self.scan.shape
        a, b, c = self.factor
        if self.factor == (1, 1, 1):
            return fine
        blocks = fine.reshape(x, a, y, b, z, c).transpose(0, 2, 4, 1, 3, 5).reshape(-1, a * b * c)
        blocks = np.sort(blocks, axis=1)
        result = blocks[:, 0].copy()
        mixed = np.flatnonzero(blocks[:, 0] != blocks[:, -1])
        rows = blocks[mixed]
        value, done = rows[:, 0].copy(), np.zeros(len(rows), bool)
        # In a sorted row, a run of k + 1 equal values starts where the value k places on is the same.
        for length in range(rows.shape[1] - 2, 0, -1):
            equal = rows[:, length:] == rows[:, :-length]
            new = equal.any(1) & ~done
            value[new] = rows[new, equal[new].argmax(1)]
            done |= new
        result[mixed] = value
        return result.reshape(x, y, z)

    def noise(self, rng: np.random.Generator, wavelength_mm: float) -> Array:
        """A smooth random field on the fine grid, standard deviation about 1."""
        step = max(wavelength_mm / 2.5, min(self.spacing))
        if step < 1.4 * max(self.spacing):
            return smooth_noise(rng, self.shape, float(np.cbrt(np.prod(self.spacing))), wavelength_mm)
        coarse = [int(np.ceil(n * s / step)) + 2 for n, s in zip(self.shape, self.spacing, strict=True)]
        field = smooth_noise(rng, tuple(coarse), step, wavelength_mm)
        x, y, z = (np.arange(n) * (s / step) for n, s in zip(self.shape, self.spacing, strict=True))
        return resample_grid(field, (x, y, z))


def draw_grid(rng: np.random.Generator, anatomy: Anatomy, modality: str) -> Grid:
    """Draw a scan of an anatomy: a detail around one of its parts, a larger region, or all of it."""
    extent = (np.array(anatomy.index.shape) - 1) * anatomy.spacing
    while True:
        spacing, field, whole = _draw_field(rng, extent, modality)
        thick = int(spacing.argmax()) if modality != "pet" else 2
        factor = [2, 2, 2] if modality == "pet" and spacing.max() > 3.2 else [1, 1, 1]
        if modality != "pet":
            # An odd factor: the middle of a scan voxel is then the middle of a fine one.
            factor[thick] = 3 if spacing[thick] > max(2.2, 1.4 * spacing.min()) else 1
        field = np.minimum(field, extent + (20.0, 20.0, 0.0))
        shape = np.maximum((field / spacing).astype(int), 8)
        voxels = int(np.prod(shape))
        if voxels <= MAX_VOXELS and voxels * int(np.prod(factor)) <= MAX_FINE_VOXELS:
            break
    centre = extent / 2 + rng.uniform(-0.5, 0.5, 3) * extent * (0.1, 0.1, 1.0)
    labelled = anatomy.labelled
    # Between two legs there is nothing.
    if labelled and (not whole or anatomy.limb):
        voxels_of = np.flatnonzero(anatomy.index == labelled[int(rng.integers(len(labelled)))])
        chosen = np.unravel_index(voxels_of[int(rng.integers(len(voxels_of)))], anatomy.index.shape)
        centre = np.array(chosen) * anatomy.spacing + rng.uniform(-0.25, 0.25, 3) * field
    reach = np.minimum(field, extent) / 2
    centre = np.clip(centre, reach, extent - reach)
    rotation = np.eye(3)
    if rng.random() < 0.2:
        rotation = Rotation.from_euler("xyz", rng.uniform(-12, 12, 3), degrees=True).as_matrix()
    order = ORDERS[int(rng.integers(1, 6))] if rng.random() < 0.15 else ORDERS[0]
    # Most scanners' files run to the left and the back (DICOM's LPS).
    flips = (True, True, False) if rng.random() < 0.5 else tuple(bool(flip) for flip in rng.integers(0, 2, size=3))
    blur = rng.uniform(0.35, 0.6) * spacing
    blur[thick] *= 0.6
    scan = Acquisition(
        shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        rotation=rotation,
        centre=centre,
        noise_hu=float(np.exp(rng.uniform(np.log(5), np.log(32)))),
        blur_mm=(float(blur[0]), float(blur[1]), float(blur[2])),
        axis_order=order,
        axis_flips=(flips[0], flips[1], flips[2]),
        lattice_mm=WARP_STEP_MM,
    )
    return Grid(scan, (factor[0], factor[1], factor[2]))


def _draw_field(rng: np.random.Generator, extent: Array, modality: str) -> tuple[Array, Array, bool]:
    """Voxel sides and field of view along x, y, z, mm, and whether it is centred on the body."""
    whole = rng.random() < 0.4
    if modality == "pet":
        in_plane = rng.uniform(3.0, 5.5)
        spacing = np.array([in_plane, in_plane, rng.uniform(3.0, 5.0)])
        return spacing, np.array([*rng.uniform(200, 420, 2), rng.uniform(150, 420)]), whole
    if whole:
        in_plane, slice_mm = rng.uniform(1.7, 2.6), rng.uniform(1.7, 6.0)
        field = np.array([*rng.uniform(260, 420, 2), rng.uniform(180, 420)])
    elif rng.random() < 0.6:
        in_plane, slice_mm = rng.uniform(0.7, 1.25), rng.uniform(0.8, 3.0)
        field = np.array([*rng.uniform(100, 165, 2), rng.uniform(80, 150)])
    else:
        in_plane, slice_mm = rng.uniform(1.1, 1.8), rng.uniform(1.2, 5.0)
        field = np.array([*rng.uniform(150, 260, 2), rng.uniform(100, 200)])
    if rng.random() < 0.25:
        slice_mm = in_plane
    spacing = np.array([in_plane, in_plane, slice_mm])
    # CT is axial; MR slices may lie in any plane.
    if modality == "mr" and rng.random() < 0.5:
        spacing = np.roll(spacing, int(rng.integers(1, 3)))
    return spacing, field, whole


def source_voxels(rng: np.random.Generator, grid: Grid, anatomy: Anatomy) -> Array:
    """(3, x, y, z) float32 fractional map voxel that each fine voxel shows: turned, scaled, mirrored, bent."""
    scan = grid.scan
    turn = Rotation.from_euler("xyz", rng.normal(0, 6, 3).clip(-15, 15), degrees=True).as_matrix()
    matrix = turn @ np.diag(rng.uniform(0.87, 1.15) * rng.uniform(0.94, 1.06, 3))
    extent = (np.array(anatomy.index.shape) - 1) * anatomy.spacing
    mirror = np.diag([-1.0 if rng.random() < 0.5 else 1.0, 1.0, 1.0])
    to_ras = scan.scan_to_ras
    linear = mirror @ matrix @ to_ras[:3, :3] / np.array(grid.factor)
    # A fine voxel's index 0 lies half a scan voxel, less half a fine voxel, before the scan voxel's centre.
    first = to_ras[:3, :3] @ ((1 / np.array(grid.factor) - 1) / 2) + to_ras[:3, 3] - scan.centre
    middle = extent / 2
    start = mirror @ (matrix @ first + scan.centre - middle) + middle
    axes = np.ogrid[tuple(slice(0, n) for n in grid.shape)]
    bend_mm, fine_mm = rng.uniform(1.0, 5.0), rng.uniform(0.0, 1.0)
    voxels = np.empty((3, *grid.shape), np.float32)
    for row in range(3):
        warp = bend_mm * grid.noise(rng, 70.0)
        warp += fine_mm * grid.noise(rng, 28.0)
        for axis in range(3):
            warp += axes[axis].astype(np.float32) * np.float32(linear[row, axis])
        warp += np.float32(start[row])
        warp /= np.float32(anatomy.spacing[row])
        voxels[row] = warp
    return voxels


def sample_parts(anatomy: Anatomy, voxels: Array) -> tuple[Array, Array]:
    """Part with the largest share at each point, and that share.

    Args:
        anatomy: What is sampled.
        voxels: (3, x, y, z) fractional voxels of its map.

    Returns:
        (x, y, z) uint16 part, 0 where no label is; (x, y, z) float32 depth below the part's border, mm, up to two
        voxels of the map.
    """
    shape = voxels.shape[1:]
    part = np.zeros(shape, np.uint16)
    best = np.full(shape, -1.0, np.float32)
    stride = 4
    sparse = voxels[:, ::stride, ::stride, ::stride]
    for soft in anatomy.soft:
        low, high = np.array(soft.origin), np.array(soft.origin) + soft.share.shape
        box: tuple[slice, ...] = (slice(None),) * 3
        if soft.part:
            near = np.ones(sparse.shape[1:], bool)
            for row in range(3):
                near &= (sparse[row] > low[row] - 3) & (sparse[row] < high[row] + 3)
            if not near.any():
                continue
            sides = [np.flatnonzero(near.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))]
            box = tuple(slice(max(int(side[0] - 1) * stride, 0), int(side[-1] + 1) * stride + 1) for side in sides)
        points: Array = voxels[(slice(None), *box)] - low[:, None, None, None].astype(np.float32)
        # Beyond the top and bottom slices the body goes on.
        at_end = soft.origin[2] == 0 or soft.origin[2] + soft.share.shape[2] == anatomy.index.shape[2]
        if at_end:
            np.clip(points[2], -low[2], anatomy.index.shape[2] - 1 - low[2], out=points[2])
        share = map_coordinates(
            soft.share, points, np.float32, order=1, mode="nearest" if not soft.part else "constant"
        )
        share /= 255
        wins = share > best[box]
        best[box][wins] = share[wins]
        part[box][wins] = soft.part
    np.clip(best, 0.1, MOST_SHARE, out=best)
    depth = ndtri(best, out=best)
    depth *= np.float32(BLUR_VOXELS * np.cbrt(np.prod(anatomy.spacing)))
    return part, depth


def fill_body(rng: np.random.Generator, anatomy: Anatomy, grid: Grid, voxels: Array, part: Array) -> None:
    """Gives what no label names its tissue, in place: muscle and fat inside, then fat and skin, air around."""
    if anatomy.surface_mm is None:
        return
    free = part == 0
    depth = map_coordinates(anatomy.surface_mm, voxels / np.float32(SURFACE_STEP), np.float32, order=1, mode="nearest")
    wide, narrow = grid.noise(rng, 80.0), grid.noise(rng, 22.0)
    fat_mm = rng.uniform(3, 14 if anatomy.limb else 32) * np.exp(0.35 * wide)
    muscle_mm = np.clip(rng.uniform(2, 9) + 4 * grid.noise(rng, 55.0) + narrow, 0, 14)
    if anatomy.limb:
        muscle_mm *= 0.2
    inner_mm = np.clip(rng.uniform(2, 8) + 4 * grid.noise(rng, 45.0), 0, 14)
    soft = 0.75 * grid.noise(rng, rng.uniform(22, 40)) + 0.5 * narrow
    soft_share, muscle_share = rng.uniform(0.1, 0.55), rng.uniform(0.4, 0.8)
    code = {tissue: number for number, tissue in enumerate(FILLING)}
    level = np.quantile(soft[::4, ::4, ::4], 1 - soft_share)
    inside = np.where(soft > level, code["soft tissue"], code["fat"]).astype(np.uint16)
    inside[soft > np.quantile(soft[::4, ::4, ::4], 1 - soft_share * muscle_share)] = code["muscle"]
    inside[depth > -inner_mm] = code["muscle"]
    # Fat planes part the muscles of the wall.
    plane = np.abs(grid.noise(rng, 26.0)) < 0.06
    inside[plane & (inside == code["muscle"])] = code["fat"]
    outside = depth - muscle_mm
    inside[outside > 0] = code["fat"]
    inside[outside > fat_mm - 2.0] = code["skin"]
    inside[outside > fat_mm] = code["air"]
    part[free] = inside[free]
