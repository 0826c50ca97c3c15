"""The network's prediction for any region of one image, and what all predictions of a request cost."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib.geometry.box import box_in_roi
from lib.geometry.resample import resample_roi
from lib.geometry.roi import Roi
from lib.prompts.box import Box
from lib.prompts.click import Click
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import Stages
from lib.segmenters.intensity import apply_window, intensity_window
from lib.segmenters.intensity_settings import IntensitySettings
from lib.segmenters.roi.network import Embedding
from lib.segmenters.roi.predictor import Predictor
from lib.volumes.volume import Volume

MAX_ENCODES = 8
"""Image encoder passes of one request."""


@dataclass
class RoiPredictions:
    """Predicts regions of one image for one request.

    Attributes:
        volume: the image.
        predictor: runs the network.
        cache: of the process.
        intensity: how the intensities are normalised.
        stages: takes the times.
        encodes: image encoder passes so far.
        decodes: decoder passes so far.
    """

    volume: Volume
    predictor: Predictor
    cache: SegmenterCache
    intensity: IntensitySettings
    stages: Stages
    _held: dict[Hashable, Embedding] = field(default_factory=dict, init=False)
    encodes: int = field(default=0, init=False)
    decodes: int = field(default=0, init=False)

    @property
    def key(self) -> Hashable:
        """Identifies all that a prediction depends on, except for regions and prompts."""
        return (self.volume.content_key, self.intensity, self.predictor.version)

    def known(self, roi: Roi, clicks: Sequence[Click]) -> list[Click]:
        """The clicks that the network is shown: those in the region, of the kinds that it was trained with.

        A network that was trained without background clicks would take one for a foreground click.
        """
        background = self.predictor.takes_background
        return [click for click in clicks if roi.holds(click) and (click.is_foreground or background)]

    def __call__(
        self, roi: Roi, clicks: Sequence[Click], previous: Tensor | None = None, box: Box | None = None
    ) -> Tensor:
        """Predicts one region.

        Args:
            roi: of the image.
            clicks: that the network is shown, see `known`; the first one foreground.
            previous: (D, H, W) foreground logit of the answer that the clicks correct.
            box: around the structure; a network that reads none is not shown it.

        Returns:
            (2, D, H, W) float32 logits on the CPU, channel 1 the foreground.
        """
        key = (self.volume.content_key, roi.key(), self.intensity, self.predictor.version)
        with self.stages.time("resample"):
            # No request encodes a region twice, whatever the cache keeps beyond it.
            held = self._held.get(key)
            embedding = self.cache.get(key) if held is None else held
            values = self._normalised(roi) if embedding is None else None
        prediction = self.predictor.predict(
            values,
            torch.from_numpy(roi.clicks_to_dhw(clicks)),
            [click.is_foreground for click in clicks],
            previous=previous,
            key=key,
            embedding=embedding,
            box_dhw=torch.from_numpy(box_in_roi(box, roi)) if box and self.predictor.takes_box else None,
        )
        self._held[key] = prediction.embedding
        self.encodes += prediction.encoded
        self.decodes += 1
        self.stages.add("encode", prediction.encode_ms)
        self.stages.add("decode", prediction.decode_ms)
        return prediction.logits

    def _normalised(self, roi: Roi) -> Tensor:
        """(1, D, H, W) float32 intensities as the network was trained on them, 0 outside the image."""
        values, inside = resample_roi(self.volume.voxels, roi)
        return apply_window(values, inside, intensity_window(self.intensity, self.volume))
