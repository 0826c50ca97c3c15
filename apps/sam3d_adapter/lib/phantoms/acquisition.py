"""How a phantom is scanned and stored: geometry, blur, noise, axis order."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from lib.phantoms.config import PhantomConfig

Array = np.ndarray
ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
LATTICE_MARGIN_MM = 8.0
"""The lattice reaches this far beyond the image, so that shapes at its border need no special case."""
NOISE_KERNEL = np.array([0.12, 0.76, 0.12], dtype=np.float32)
"""Correlation of the noise between neighbouring voxels, of the order a soft CT kernel gives."""


@dataclass(frozen=True)
class Acquisition:
    """Geometry and image quality of one scan. The scan grid is (x, y, z), close to right, anterior, superior.

    Attributes:
        shape: voxels along x, y, z.
        spacing: mm along x, y, z.
        rotation: (3, 3) scan axes -> patient RAS.
        centre: patient RAS position, mm, of the middle of the grid.
        noise_hu: standard deviation of the stored noise.
        blur_mm: (3,) sigma of the point spread function.
        axis_order: which scan axis each stored axis is.
        axis_flips: whether each stored axis runs against its scan axis.
        lattice_mm: step of the lattice.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    rotation: Array
    centre: Array
    noise_hu: float
    blur_mm: tuple[float, float, float]
    axis_order: tuple[int, int, int]
    axis_flips: tuple[bool, bool, bool]
    lattice_mm: float

    @property
    def lattice_shape(self) -> tuple[int, int, int]:
        """Lattice points along x, y, z."""
        x, y, z = (
            int(np.ceil(((n - 1) * s + 2 * LATTICE_MARGIN_MM) / self.lattice_mm)) + 1
            for n, s in zip(self.shape, self.spacing, strict=True)
        )
        return x, y, z

    @property
    def lattice_to_ras(self) -> Array:
        """(4, 4) lattice index -> patient RAS, mm."""
        extent = np.array([(n - 1) * s for n, s in zip(self.shape, self.spacing, strict=True)])
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation * self.lattice_mm
        matrix[:3, 3] = self.centre - self.rotation @ (extent / 2 + LATTICE_MARGIN_MM)
        return matrix

    @property
    def scan_to_ras(self) -> Array:
        """(4, 4) scan voxel index -> patient RAS, mm."""
        extent = np.array([(n - 1) * s for n, s in zip(self.shape, self.spacing, strict=True)])
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation * np.array(self.spacing)
        matrix[:3, 3] = self.centre - self.rotation @ (extent / 2)
        return matrix

    def lattice_index(self, axis: int, start: int = 0, stop: int | None = None) -> Array:
        """Fractional lattice indices of scan voxels start..stop - 1 along one axis."""
        voxels = np.arange(start, self.shape[axis] if stop is None else stop)
        return (voxels * self.spacing[axis] + LATTICE_MARGIN_MM) / self.lattice_mm

    def store(self, scan: Array) -> Array:
        """Bring an array of the scan grid into the stored axis order."""
        stored = np.transpose(scan, self.axis_order)
        flipped = tuple(axis for axis, flip in enumerate(self.axis_flips) if flip)
        return np.ascontiguousarray(np.flip(stored, flipped))

    def stored_affine(self) -> Array:
        """(4, 4) float64 stored voxel index -> RAS mm."""
        stored_to_scan = np.zeros((4, 4))
        stored_to_scan[3, 3] = 1.0
        for axis, (scan_axis, flip) in enumerate(zip(self.axis_order, self.axis_flips, strict=True)):
            stored_to_scan[scan_axis, axis] = -1.0 if flip else 1.0
            stored_to_scan[scan_axis, 3] = self.shape[scan_axis] - 1 if flip else 0.0
        return self.scan_to_ras @ stored_to_scan


def draw_acquisition(rng: np.random.Generator, config: PhantomConfig, centre: Array) -> Acquisition:
    """Draw a scan of the region around ``centre`` (RAS mm)."""
    while True:
        in_plane = float(rng.uniform(*config.spacing_mm))
        spacing = (in_plane, in_plane, float(rng.uniform(*config.slice_mm)))
        field = (*rng.uniform(*config.in_plane_mm, size=2), rng.uniform(*config.through_plane_mm))
        nx, ny, nz = (int(f / s) for f, s in zip(field, spacing, strict=True))
        if nx * ny * nz <= config.max_voxels:
            break
    rotation = np.eye(3)
    if rng.random() < config.oblique_share:
        angles = rng.uniform(-config.oblique_deg, config.oblique_deg, size=3)
        rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    order: tuple[int, int, int] = (0, 1, 2)
    if rng.random() < config.permuted_share:
        order = ORDERS[int(rng.integers(1, 6))]
    # Most scanners' files run to the left and the back (DICOM's LPS); the others are there so that none is relied on.
    flips = (True, True, False) if rng.random() < 0.5 else tuple(bool(flip) for flip in rng.integers(0, 2, size=3))
    blur = float(rng.uniform(0.45, 0.8))
    return Acquisition(
        shape=(nx, ny, nz),
        spacing=spacing,
        rotation=rotation,
        centre=np.asarray(centre, dtype=np.float64),
        noise_hu=float(rng.uniform(*config.noise_hu)),
        blur_mm=(blur, blur, 0.35 * spacing[2]),
        axis_order=order,
        axis_flips=(flips[0], flips[1], flips[2]),
        lattice_mm=config.lattice_mm,
    )


def scan_image(rng: np.random.Generator, hu: Array, acquisition: Acquisition) -> Array:
    """Blur ``hu`` (float32, scan grid; changed in place) and add noise; returns int16 HU."""
    for axis, (blur, spacing) in enumerate(zip(acquisition.blur_mm, acquisition.spacing, strict=True)):
        hu = gaussian_filter1d(hu, blur / spacing, axis=axis, mode="nearest", truncate=2.5)
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    side, middle = NOISE_KERNEL[0], NOISE_KERNEL[1]
    for axis in range(3):
        # Wrapping round the border keeps the standard deviation equal there.
        neighbours = np.roll(noise, 1, axis=axis)
        neighbours += np.roll(noise, -1, axis=axis)
        neighbours *= side
        noise *= middle
        noise += neighbours
    noise *= acquisition.noise_hu / float(np.sqrt(np.sum(NOISE_KERNEL**2))) ** 3
    hu += noise
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
