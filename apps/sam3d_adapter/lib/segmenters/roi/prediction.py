"""The network's answer for any region of one image, and what all answers of a request cost."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib.geometry.resample import ResampleRoid
from lib.geometry.roi import Roi
from lib.infers.response import Stages
from lib.presets import IntensityPreset
from lib.prompts.box import Box, box_in_roi
from lib.prompts.click import Click
from lib.segmenters.cache import EmbeddingCache
from lib.segmenters.family import Embedding
from lib.segmenters.roi.intensity import NormaliseIntensityd
from lib.segmenters.roi.predictor import Predictor
from lib.volumes.volume import Volume

MAX_ENCODES = 8
"""Image encoder passes of one request."""


@dataclass
class Looks:
    """Looks at regions of one image for one request.

    Attributes:
        volume: the image.
        predictor: runs the network.
        embeddings: of the process.
        intensity: the preset's rule.
        stages: takes the times.
        encodes: image encoder passes so far.
        decodes: decoder passes so far.
    """

    volume: Volume
    predictor: Predictor
    embeddings: EmbeddingCache
    intensity: IntensityPreset
    stages: Stages
    _held: dict[Hashable, Embedding] = field(default_factory=dict, init=False)
    encodes: int = field(default=0, init=False)
    decodes: int = field(default=0, init=False)

    @property
    def key(self) -> Hashable:
        """Identifies all that an answer depends on but for regions and clicks."""
        return (self.volume.content_key, self.intensity, self.predictor.version)

    def known(self, roi: Roi, clicks: Sequence[Click]) -> list[Click]:
        """The clicks that the network is told of: those in the region, of the kinds that it was trained with.

        A model that was not trained with background clicks takes one for a foreground click.
        """
        background = self.predictor.uses_background
        return [click for click in clicks if roi.holds(click) and (click.is_foreground or background)]

    def get(self, key: Hashable) -> Embedding | None:
        """The embedding of an ROI: no request encodes one twice, whatever is kept beyond it."""
        held = self._held.get(key)
        return self.embeddings.get(key) if held is None else held

    def __call__(
        self, roi: Roi, clicks: Sequence[Click], previous: Tensor | None = None, box: Box | None = None
    ) -> Tensor:
        """The network's answer.

        Args:
            roi: of the image.
            clicks: that it is told of, see `known`; the first one foreground.
            previous: (D, H, W) foreground logit of the answer that the clicks correct.
            box: around the structure; a model that reads none is not told of it.

        Returns:
            (2, D, H, W) float32 logits on the CPU, channel 1 the foreground.
        """
        with self.stages.time("resample"):
            seen = ResampleRoid(self.intensity, embedding_cache=self, version=self.predictor.version)(
                {"volume": self.volume, "roi_geometry": roi}
            )
            seen = NormaliseIntensityd(self.intensity)(seen)
        prediction = self.predictor.predict(
            seen.get("roi"),
            torch.from_numpy(roi.clicks_to_dhw(clicks)),
            [click.is_foreground for click in clicks],
            previous=previous,
            key=seen["embedding_key"],
            embedding=seen.get("embedding"),
            box_dhw=torch.from_numpy(box_in_roi(box, roi)) if box and self.predictor.uses_box else None,
        )
        self._held[seen["embedding_key"]] = prediction.embedding
        self.encodes += prediction.encoded
        self.decodes += 1
        self.stages.add("encode", prediction.encode_ms)
        self.stages.add("decode", prediction.decode_ms)
        return prediction.logits
