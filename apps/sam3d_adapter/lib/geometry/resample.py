"""The ROI's place -> the ROI's voxels, unless their embedding is at hand."""

from collections.abc import Hashable, Mapping
from typing import Any, Protocol

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from lib.geometry.interpolation import linear_taps, sample, within
from lib.geometry.roi import Roi
from lib.presets import IntensityPreset


class Cache(Protocol):
    """What is asked of a cache of embeddings."""

    def get(self, key: Hashable) -> Any:
        """The embedding, or None."""


class ResampleRoid(MapTransform):
    """Adds ``roi``, (1, D, H, W) float32 in the image's intensities, and ``roi_inside``, where it lies in the image.

    Where ``embedding_cache`` holds the embedding of this very ROI, it adds ``embedding`` instead and touches no voxel.
    In both cases it adds ``embedding_key``: content of the image, ROI, intensity rule and version.

    Args:
        intensity: the preset's rule, part of the key only.
        keys: of the ROI's geometry.
        embedding_cache: of the process; None to resample always.
        version: of the model and its device.
    """

    def __init__(
        self,
        intensity: IntensityPreset,
        keys: KeysCollection = "roi_geometry",
        *,
        embedding_cache: Cache | None = None,
        version: str = "",
    ) -> None:
        super().__init__(keys)
        self._intensity, self._cache, self._version = intensity, embedding_cache, version

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        volume = d["volume"]
        for key in self.key_iterator(d):
            roi: Roi = d[key]
            d["embedding_key"] = (volume.content_key, roi.key(), self._intensity, self._version)
            embedding = self._cache.get(d["embedding_key"]) if self._cache is not None else None
            if embedding is not None:
                d["embedding"] = embedding
                continue
            d.pop("embedding", None)
            d["roi"], d["roi_inside"] = resample_roi(volume.voxels, roi)
        return d


def resample_roi(voxels: Tensor, roi: Roi) -> tuple[Tensor, Tensor]:
    """Trilinear samples of an image at the ROI's voxels.

    A voxel is inside where its centre lies in the extent of the image's voxels; in the outermost half voxel the value
    of the last centre holds on. Voxels next to a value that is not finite count as outside.

    Args:
        voxels: (i, j, k), any real type.
        roi: of that image.

    Returns:
        (1, D, H, W) float32, 0 where outside; (1, D, H, W) bool.
    """
    axes = roi.image_axes
    positions = roi.image_positions()
    lengths = [voxels.shape[axis] for axis in axes]
    taps = [linear_taps(position, length) for position, length in zip(positions, lengths, strict=True)]
    values = sample(voxels.permute(axes), taps)

    d, h, w = (torch.from_numpy(within(position, length)) for position, length in zip(positions, lengths, strict=True))
    inside = d[:, None, None] & h[:, None] & w
    if voxels.is_floating_point():
        inside &= torch.isfinite(values)
    return torch.where(inside, values, 0.0)[None], inside[None]
