"""Training samples from labelled volumes: an ROI around a click in an object, with truth and clicks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.ndimage import find_objects
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class SamplingConfig:
    """How ROIs are drawn.

    Attributes:
        roi_size: Side in voxels.
        spacings_mm: Voxel sides, ascending.
        too_fine_share: Share of samples at a spacing too fine for the object to fit into the ROI, where there is one.
        too_coarse_share: Share of samples at a coarser spacing than needed, where there is one. All others have the
            finest spacing at which the object fits.
        max_clicks: Clicks of a sample: 1 to this many.
        recorded_share: Share of samples that start with the first click of a user, where one is recorded.
        centre_share: Share of first clicks near the object's centre; the others fall anywhere in it.
        zoom: Range of the isotropic zoom.
        rotation_deg: Largest rotation about each axis.
        remap_share: Share of samples with remapped intensities, so that no absolute value is learned.
        gain: Standard deviation of a random factor about 1 and of a random offset about 0, for all intensities.
    """

    roi_size: int = 64
    spacings_mm: tuple[float, ...] = (1.0,)
    too_fine_share: float = 0.3
    too_coarse_share: float = 0.0
    max_clicks: int = 2
    recorded_share: float = 0.0
    centre_share: float = 0.5
    zoom: tuple[float, float] = (0.85, 1.2)
    rotation_deg: float = 10.0
    remap_share: float = 0.1
    gain: float = 0.0


def for_training(roi_size: int, *, recorded_share: float = 0.0) -> SamplingConfig:
    """Sampling for every training, from the shipped weights to a hospital's own."""
    return SamplingConfig(roi_size=roi_size, too_coarse_share=0.3, gain=0.1, recorded_share=recorded_share)


def for_validation(roi_size: int) -> SamplingConfig:
    """Sampling for the training curve: no augmentation, at the finest spacing at which the object fits."""
    plain = SamplingConfig(roi_size=roi_size, zoom=(1.0, 1.0), rotation_deg=0.0, remap_share=0.0)
    return replace(plain, too_fine_share=0.0)


@dataclass(frozen=True, eq=False)
class Volume:
    """An image and its labels.

    Without a table of objects, each label value is an object, whose number is that value. With one, object n is row n,
    counted from 1. Objects may overlap: a kidney, and its tumour alone.

    Attributes:
        image: (i, j, k), intensities as stored.
        labels: (i, j, k), integers, 0 background.
        affine: (4, 4), voxel index to RAS mm.
        unions: For each object its label values; None where each value is an object.
        weights: For each object how often it is drawn, relative to the others; None for equally often.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray
    unions: tuple[tuple[int, ...], ...] | None = None
    weights: tuple[float, ...] | None = None

    @cached_property
    def _boxes(self) -> dict[int, Box]:
        """Where each label value lies."""
        found: list[Box | None] = find_objects(self.labels)
        return {value: box for value, box in enumerate(found, start=1) if box is not None}

    @cached_property
    def _values(self) -> dict[int, tuple[int, ...]]:
        """Label values of each object that has voxels."""
        if self.unions is None:
            return {value: (value,) for value in self._boxes}
        present = [tuple(value for value in union if value in self._boxes) for union in self.unions]
        return {number: values for number, values in enumerate(present, start=1) if values}

    @cached_property
    def _chances(self) -> np.ndarray | None:
        if self.weights is None:
            return None
        of_unions = dict(enumerate(self.weights, start=1))
        weights = np.array([of_unions[number] for number in self._values])
        return weights / weights.sum()

    def objects(self) -> list[int]:
        """Numbers of the objects that have voxels."""
        return list(self._values)

    def draw_object(self, rng: np.random.Generator) -> int:
        """Number of a random object, by the weights."""
        return int(rng.choice(self.objects(), p=self._chances))

    def box(self, number: int) -> Box:
        """The smallest box that holds an object."""
        boxes = [self._boxes[value] for value in self._values[number]]
        i, j, k = (slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*boxes, strict=True))
        return i, j, k

    def mask(self, number: int, box: Box) -> np.ndarray:
        """An object within a box, bool."""
        values, labels = self._values[number], self.labels[box]
        if len(values) == 1:
            return np.asarray(labels == values[0])
        chosen = np.zeros(max(self._boxes) + 1, dtype=bool)
        chosen[list(values)] = True
        return chosen[labels]

    def coordinates(self, number: int) -> np.ndarray:
        """(N, 3) voxel indices of an object."""
        box = self.box(number)
        return np.argwhere(self.mask(number, box)) + [side.start for side in box]

    def has(self, number: int, voxel: Sequence[int]) -> bool:
        """Whether a voxel belongs to an object."""
        return int(self.labels[tuple(voxel)]) in self._values[number]


@dataclass(frozen=True)
class Sample:
    """One ROI.

    Attributes:
        roi: (1, D, H, W) intensities as stored.
        inside: (1, D, H, W) bool, false outside the image.
        truth: (1, D, H, W) bool.
        clicks_dhw: (N, 3) voxel indices in the ROI, all on the object.
        recorded: (M, 4) further clicks of a user, in order: D, H, W and 1 (foreground) or 0 (background).
    """

    roi: Tensor
    inside: Tensor
    truth: Tensor
    clicks_dhw: Tensor
    recorded: Tensor


def draw_sample(
    volume: Volume, number: int, config: SamplingConfig, rng: np.random.Generator, recorded: np.ndarray | None = None
) -> Sample:
    """Draws one ROI around a click in an object.

    As in serving, the first click is the centre of the ROI; rotation, zoom and flips are about it.

    Args:
        volume: Image and labels.
        number: Of the object.
        config: How to draw.
        rng: Source of the draws.
        recorded: (M, 4), clicks of a user: voxel i, j, k and 1 (foreground) or 0 (background). The first one on the
            object becomes the first click; later ones inside the ROI become the sample's recorded clicks.
    """
    size = config.roi_size
    recorded = np.zeros((0, 4)) if recorded is None else recorded
    began = first_on(volume, number, recorded)
    click = draw_click(volume, number, config.centre_share, rng) if began is None else recorded[began, :3].astype(int)
    reach = [max(at - side.start, side.stop - 1 - at) for at, side in zip(click, volume.box(number), strict=True)]
    spacing_mm = _draw_spacing(np.array(reach), volume.affine, config, rng)
    roi_to_voxel = _draw_geometry(volume.affine, click, spacing_mm * rng.uniform(*config.zoom), config, rng)
    roi, truth, inside = _resample(volume, number, roi_to_voxel, size)
    centre = torch.tensor([[size // 2] * 3], dtype=torch.float32)
    if began is not None:
        return Sample(roi, inside, truth, centre, _in_roi(recorded[began + 1 :], roi_to_voxel, size))
    further = _draw_clicks(truth[0], int(rng.integers(config.max_clicks)), rng)
    return Sample(roi, inside, truth, torch.cat([centre, further]), torch.zeros(0, 4))


def first_on(volume: Volume, number: int, recorded: np.ndarray) -> int | None:
    """Place of the first recorded foreground click that lies on the object."""
    for place, (*voxel, sign) in enumerate(recorded.tolist()):
        if sign and volume.has(number, [int(index) for index in voxel]):
            return place
    return None


def _in_roi(recorded: np.ndarray, roi_to_voxel: np.ndarray, size: int) -> Tensor:
    """The clicks inside the ROI, in its voxel indices."""
    dhw = (recorded[:, :3] - roi_to_voxel[:, 3]) @ np.linalg.inv(roi_to_voxel[:, :3]).T
    held = ((dhw > -0.5) & (dhw < size - 0.5)).all(axis=1)
    return torch.from_numpy(np.column_stack([dhw, recorded[:, 3]])[held]).float()


def draw_click(volume: Volume, number: int, centre_share: float, rng: np.random.Generator) -> np.ndarray:
    """A voxel (3,) of an object.

    Args:
        volume: Has the object.
        number: Of the object.
        centre_share: See `SamplingConfig`.
        rng: Source of the draws.
    """
    coordinates = volume.coordinates(number)
    if rng.random() >= centre_share:
        return coordinates[rng.integers(len(coordinates))]
    # Near the centre: the voxel closest to a point drawn around the centroid, in voxels of the object's own extent.
    extent = coordinates.std(axis=0) + 1e-3
    aim = coordinates.mean(axis=0) + 0.3 * extent * rng.standard_normal(3)
    return coordinates[np.argmin((((coordinates - aim) / extent) ** 2).sum(axis=1))]


def _draw_spacing(
    reach_voxels: np.ndarray, affine: np.ndarray, config: SamplingConfig, rng: np.random.Generator
) -> float:
    """Mostly the finest spacing at which the object fits, given how far it reaches from the click."""
    reach_mm = (reach_voxels * np.linalg.norm(affine[:3, :3], axis=0)).max()
    half = config.roi_size / 2 - 1
    too_fine = [s for s in config.spacings_mm[:-1] if s * half <= reach_mm]
    if too_fine and rng.random() < config.too_fine_share:
        return float(rng.choice(too_fine))
    too_coarse = config.spacings_mm[len(too_fine) + 1 :]
    if too_coarse and rng.random() < config.too_coarse_share:
        return float(rng.choice(too_coarse))
    return config.spacings_mm[len(too_fine)]


def _draw_geometry(
    affine: np.ndarray, click: np.ndarray, spacing_mm: float, config: SamplingConfig, rng: np.random.Generator
) -> np.ndarray:
    """(3, 4) matrix, ROI index (d, h, w) to image index (i, j, k); the ROI's centre voxel is the click."""
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], size=3)[:, None]
    rotation = Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * config.rotation_deg, degrees=True).as_matrix()
    linear = np.linalg.inv(affine[:3, :3]) @ rotation @ axes * spacing_mm
    return np.column_stack([linear, click - linear @ np.full(3, config.roi_size // 2)])


def _resample(volume: Volume, number: int, roi_to_voxel: np.ndarray, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image and object resampled (trilinear) to the ROI, and where the ROI is inside the image: (1, D, H, W) each."""
    corners = np.stack(np.meshgrid(*[[0, size - 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    reached = corners @ roi_to_voxel[:, :3].T + roi_to_voxel[:, 3]
    shape = np.array(volume.image.shape)
    low = np.clip(np.floor(reached.min(0)).astype(int) - 1, 0, shape - 1)
    high = np.clip(np.ceil(reached.max(0)).astype(int) + 2, low + 1, shape)
    box = slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])
    pair = np.empty((1, 2, *(high - low)), dtype=np.float32)
    pair[0, 0], pair[0, 1] = volume.image[box], volume.mask(number, box)
    # From ROI index to torch's coordinates of the box, -1 to 1 between its outer faces: one sum an axis.
    scale = 2 / (high - low)
    index = np.arange(size)
    grid = torch.empty((1, size, size, size, 3))
    inside = torch.ones((1, size, size, size), dtype=torch.bool)
    for axis in range(3):
        start = (roi_to_voxel[axis, 3] - low[axis] + 0.5) * scale[axis] - 1
        d, h, w = (torch.from_numpy(step * scale[axis] * index).float() for step in roi_to_voxel[axis, :3])
        position = (d + start)[:, None, None] + h[:, None] + w
        first, last = (float((end - low[axis]) * scale[axis] - 1) for end in (0, shape[axis]))
        inside &= (position >= first) & (position <= last)
        grid[..., 2 - axis] = position
    values = F.grid_sample(torch.from_numpy(pair), grid, padding_mode="border", align_corners=False)[0]
    return values[:1], (values[1:] > 0.5) & inside, inside


def _draw_clicks(truth: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    where = truth.nonzero()
    if not len(where):
        return torch.zeros(0, 3)
    return where[torch.from_numpy(rng.integers(len(where), size=count))].float()


def remap_tissue(roi: Tensor, rng: np.random.Generator) -> Tensor:
    """Maps intensities by a random monotonic curve, sometimes inverted, as between scanners and modalities.

    Args:
        roi: Normalised intensities, about zero mean and unit deviation.
        rng: Source of the curve.

    Returns:
        The same shape; local contrast changes by a factor of 0.5 to 2.
    """
    knots = torch.linspace(-4, 4, 6)
    slopes = torch.from_numpy(np.exp(rng.uniform(np.log(0.5), np.log(2.0), size=5))).float()
    values = torch.cat([torch.zeros(1), (slopes * (knots[1] - knots[0])).cumsum(0)])
    position = ((roi.clamp(-4, 4) + 4) / (knots[1] - knots[0])).clamp(max=4.999)
    left = position.long()
    curve = values[left] + (position - left) * (values[left + 1] - values[left])
    curve = curve - values.mean()
    return -curve if rng.random() < 0.5 else curve
