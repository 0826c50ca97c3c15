"""Training samples from labelled volumes: an ROI around a click in an object, with its truth and clicks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class SamplingConfig:
    """How ROIs are drawn.

    Attributes:
        roi_size: Side in voxels.
        spacings_mm: Voxel sides, ascending.
        context: Least side of the ROI over the object's equivalent diameter: an object that fills it cannot be told
            from its surroundings. The largest spacing takes what is larger.
        any_spacing_share: Share of objects seen at a spacing drawn at random instead.
        max_clicks: Clicks of a sample: 1 to this many.
        centre_share: Share of first clicks near the object's centre; the others fall anywhere in it.
        zoom: Range of the isotropic zoom.
        rotation_deg: Largest rotation about each axis.
        remap_share: Share of samples whose tissue intensities are redrawn, so that no absolute value is learned.
    """

    roi_size: int = 64
    spacings_mm: tuple[float, ...] = (1.0,)
    context: float = 1.6
    any_spacing_share: float = 0.25
    max_clicks: int = 3
    centre_share: float = 0.5
    zoom: tuple[float, float] = (0.85, 1.2)
    rotation_deg: float = 10.0
    remap_share: float = 0.3


@dataclass(frozen=True)
class Volume:
    """A normalisable image and its labels.

    Attributes:
        image: (i, j, k), intensities as stored.
        labels: (i, j, k), 0 background, each other value one object.
        affine: (4, 4), voxel index to RAS mm.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class Sample:
    """One ROI.

    Attributes:
        roi: (1, D, H, W) intensities as stored, `inside` false where there is no image.
        inside: (1, D, H, W) bool.
        truth: (1, D, H, W) bool.
        clicks_dhw: (N, 3) voxel indices in the ROI, all on the object.
    """

    roi: Tensor
    inside: Tensor
    truth: Tensor
    clicks_dhw: Tensor


def draw_spacing(volume: Volume, label: int, config: SamplingConfig, rng: np.random.Generator) -> float:
    """A voxel side, mm, for the ROI of an object: mostly the smallest that shows enough around it."""
    if rng.random() < config.any_spacing_share:
        return float(rng.choice(config.spacings_mm))
    voxel_mm3 = abs(np.linalg.det(volume.affine[:3, :3]))
    diameter_mm = (6 / np.pi * np.count_nonzero(volume.labels == label) * voxel_mm3) ** (1 / 3)
    enough = [s for s in config.spacings_mm if s * config.roi_size >= config.context * diameter_mm]
    return enough[0] if enough else config.spacings_mm[-1]


def draw_sample(volume: Volume, label: int, config: SamplingConfig, rng: np.random.Generator) -> Sample:
    """Draw one ROI around a click in the object `label`.

    The first click is the ROI's centre, as in serving; rotation, zoom and flips happen about it.
    """
    size = config.roi_size
    spacing_mm = draw_spacing(volume, label, config, rng) * rng.uniform(*config.zoom)
    coordinates = np.argwhere(volume.labels == label)
    if rng.random() < config.centre_share:
        # Near the centre: the voxel closest to a point drawn around the centroid, in voxels of the object's own extent.
        extent = coordinates.std(axis=0) + 1e-3
        aim = coordinates.mean(axis=0) + 0.3 * extent * rng.standard_normal(3)
        click = coordinates[np.argmin((((coordinates - aim) / extent) ** 2).sum(axis=1))]
    else:
        click = coordinates[rng.integers(len(coordinates))]
    roi_to_voxel = _draw_geometry(volume.affine, click, spacing_mm, config, rng)
    roi, inside = _resample(volume.image, roi_to_voxel, size, "bilinear")
    truth = _resample((volume.labels == label), roi_to_voxel, size, "bilinear")[0] > 0.5
    centre = torch.tensor([[size // 2] * 3], dtype=torch.float32)
    further = _draw_clicks(truth[0], int(rng.integers(config.max_clicks)), rng)
    return Sample(roi, inside, truth, torch.cat([centre, further]))


def _draw_geometry(
    affine: np.ndarray, click: np.ndarray, spacing_mm: float, config: SamplingConfig, rng: np.random.Generator
) -> np.ndarray:
    """(3, 4): ROI index (d, h, w) to image index (i, j, k), the ROI's centre voxel on the click."""
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], size=3)[:, None]
    rotation = Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * config.rotation_deg, degrees=True).as_matrix()
    linear = np.linalg.inv(affine[:3, :3]) @ rotation @ axes * spacing_mm
    return np.column_stack([linear, click - linear @ np.full(3, config.roi_size // 2)])


def _resample(array: np.ndarray, roi_to_voxel: np.ndarray, size: int, mode: str) -> tuple[Tensor, Tensor]:
    """Trilinear samples of an array on the ROI's grid, (1, D, H, W), and where the grid is inside the array."""
    corners = np.stack(np.meshgrid(*[[0, size - 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    reached = corners @ roi_to_voxel[:, :3].T + roi_to_voxel[:, 3]
    low = np.clip(np.floor(reached.min(0)).astype(int) - 1, 0, np.array(array.shape) - 1)
    high = np.clip(np.ceil(reached.max(0)).astype(int) + 2, low + 1, array.shape)
    box = np.ascontiguousarray(array[low[0] : high[0], low[1] : high[1], low[2] : high[2]], dtype=np.float32)
    index = torch.arange(size, dtype=torch.float32)
    linear = torch.from_numpy(roi_to_voxel[:, :3].astype(np.float32))
    offset = torch.from_numpy((roi_to_voxel[:, 3] - low).astype(np.float32))
    d, h, w = (index[:, None] * linear[:, axis] for axis in range(3))
    voxel = d[:, None, None] + h[:, None] + w + offset  # (D, H, W, 3), in the box
    shape = torch.tensor(box.shape, dtype=torch.float32)
    grid = ((voxel + 0.5) * 2 / shape - 1).flip(-1)[None]
    values = F.grid_sample(
        torch.from_numpy(box)[None, None], grid, mode=mode, padding_mode="border", align_corners=False
    )
    whole = torch.tensor(array.shape) - 0.5
    absolute = voxel + torch.from_numpy(low.astype(np.float32))
    inside = ((absolute >= -0.5) & (absolute <= whole)).all(-1)
    return values[0], inside[None]


def _draw_clicks(truth: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    where = truth.nonzero()
    if not len(where):
        return torch.zeros(0, 3)
    return where[torch.from_numpy(rng.integers(len(where), size=count))].float()


def remap_tissue(roi: Tensor, rng: np.random.Generator) -> Tensor:
    """Redraw the intensity scale by a random smooth curve, sometimes inverted, as between scanners and modalities.

    Args:
        roi: Normalised intensities, about zero mean and unit deviation.
        rng: Source of the curve.

    Returns:
        The same shape; the contrast of neighbouring intensities is changed by a factor of 0.5 to 2.
    """
    knots = torch.linspace(-4, 4, 6)
    slopes = torch.from_numpy(np.exp(rng.uniform(np.log(0.5), np.log(2.0), size=5))).float()
    values = torch.cat([torch.zeros(1), (slopes * (knots[1] - knots[0])).cumsum(0)])
    position = ((roi.clamp(-4, 4) + 4) / (knots[1] - knots[0])).clamp(max=4.999)
    left = position.long()
    curve = values[left] + (position - left) * (values[left + 1] - values[left])
    curve = curve - values.mean()
    return -curve if rng.random() < 0.5 else curve


def collate(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Stack samples of one ROI size; clicks are padded by repeating the first, which changes nothing of their set.

    Returns:
        rois (B, 1, D, H, W), inside (same), truths (same), clicks_dhw (B, N, 3).
    """
    count = max(len(s.clicks_dhw) for s in samples)
    clicks = [torch.cat([s.clicks_dhw, s.clicks_dhw[:1].expand(count - len(s.clicks_dhw), 3)]) for s in samples]
    return (
        torch.stack([s.roi for s in samples]),
        torch.stack([s.inside for s in samples]),
        torch.stack([s.truth for s in samples]),
        torch.stack(clicks),
    )
