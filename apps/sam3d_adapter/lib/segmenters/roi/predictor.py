"""One ROI and its clicks -> logits; each ROI is encoded at most once."""

import contextlib
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.models.precision import resolve_precision
from lib.models.prompts import RoiPrompts
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import LoadedModel
from lib.segmenters.roi.network import Embedding


class PredictorError(ValueError):
    """Arguments of a prediction that do not fit together or do not fit the network."""


@dataclass(frozen=True)
class Prediction:
    """Answer for one set of clicks.

    Attributes:
        logits: (2, D, H, W) float32 on the CPU, before softmax; channel 1 is the foreground.
        embedding: of the ROI, for further predictions.
        encoded: False where the embedding came from the cache.
        encode_ms: time of the image encoder, ms; 0 where cached.
        decode_ms: time of decoding, ms.
    """

    logits: Tensor
    embedding: Embedding
    encoded: bool
    encode_ms: float
    decode_ms: float


class Predictor:
    """Runs one loaded model.

    The answer is a pure function of model version, ROI content, clicks, box and previous answer.

    Args:
        loaded: the model, its version, its device and the device's lock.
        cache: shared by all predictors of the process.
        precision: one of ``lib.models.precision.PRECISIONS``.
    """

    def __init__(self, loaded: LoadedModel, cache: SegmenterCache, precision: str = "fp32") -> None:
        self._loaded = loaded
        self._cache = cache
        self._dtype = resolve_precision(precision, loaded.device)

    @property
    def version(self) -> str:
        """Belongs into every cache key: weights, device and number type of the embedding."""
        return f"{self._loaded.version}@{self._loaded.device}@{self.precision}"

    @property
    def precision(self) -> str:
        """The number type it computes in: ``fp32`` or ``bf16``."""
        return "bf16" if self._dtype is torch.bfloat16 else "fp32"

    @property
    def takes_previous(self) -> bool:
        """Whether a previous answer is read."""
        return bool(self._loaded.model.takes_previous)

    @property
    def takes_box(self) -> bool:
        """Whether a box may be given."""
        return bool(self._loaded.model.takes_box)

    @property
    def takes_background(self) -> bool:
        """Whether background clicks may be given."""
        return bool(self._loaded.model.takes_background)

    def predict(
        self,
        roi: Tensor | None,
        clicks_dhw: Tensor,
        is_foreground: Sequence[bool] | None = None,
        *,
        previous: Tensor | None = None,
        key: Hashable | None = None,
        embedding: Embedding | None = None,
        box_dhw: Tensor | None = None,
    ) -> Prediction:
        """Segments what the clicks point at.

        Args:
            roi: (1, D, H, W) float32 normalised, zero outside the image; may be None where ``embedding`` is given.
            clicks_dhw: (N, 3) voxel indices of the ROI, order D, H, W; at least one.
            is_foreground: (N,) on the structure as opposed to beside it, the first one true; None for all.
            previous: (D, H, W) foreground logit of the answer that the clicks correct; not every model reads it.
            key: identifies volume content, ROI, intensity rule and ``version``; None to bypass the cache.
            embedding: what an earlier look-up of ``key`` found.
            box_dhw: (2, 3) first and last voxel of a box around the structure, ROI indices.

        Raises:
            PredictorError: no click, a click array of another shape, a background click that is first or that the model
                does not know, likewise a box, neither ROI nor embedding.
            torch.OutOfMemoryError: even after the cache was emptied.
        """
        if clicks_dhw.ndim != 2 or clicks_dhw.shape[0] == 0 or clicks_dhw.shape[1] != 3:
            raise PredictorError(f"Clicks of shape {tuple(clicks_dhw.shape)}; (N, 3) with N of at least 1 is needed.")
        signs = tuple(map(bool, is_foreground)) if is_foreground is not None else (True,) * len(clicks_dhw)
        if len(signs) != len(clicks_dhw) or not signs[0]:
            raise PredictorError(f"{len(signs)} signs of {len(clicks_dhw)} clicks; one each, the first foreground.")
        if not all(signs) and not self.takes_background:
            raise PredictorError("This model knows no background clicks.")
        if roi is None and embedding is None:
            raise PredictorError("Neither an ROI nor its embedding was given.")
        if box_dhw is not None and not self.takes_box:
            raise PredictorError("This model reads no box.")
        if not self.takes_previous:
            previous = None
        given = (roi, clicks_dhw, signs, previous, box_dhw, key, embedding)
        with contextlib.suppress(torch.OutOfMemoryError):
            return self._predict(*given)
        # Outside of the handler: the exception keeps the tensors of the failed attempt alive. What is cached lies on
        # the device too; without it the click may fit.
        self._cache.clear()
        torch.cuda.empty_cache()
        return self._predict(*given)

    def feature_map(self, roi: Tensor) -> Tensor | None:
        """(C, D', H', W') float32 on the CPU, see `RoiNetwork`; None where the network has no such method.

        Args:
            roi: (1, D, H, W) float32 normalised, zero outside the image.
        """
        see = getattr(self._loaded.model, "feature_map", None)
        if see is None:
            return None
        with self._loaded.lock, torch.inference_mode(), self._autocast():
            found: Tensor = see(self._to_device(roi)[None])[0].float().cpu()
        return found

    def _predict(
        self,
        roi: Tensor | None,
        clicks_dhw: Tensor,
        signs: tuple[bool, ...],
        previous: Tensor | None,
        box_dhw: Tensor | None,
        key: Hashable | None,
        embedding: Embedding | None,
    ) -> Prediction:
        encode_ms, encoded = 0.0, False
        # One lock over look-up, encoding and storing: two users of the same ROI must not both encode it.
        with self._loaded.lock, torch.inference_mode(), self._autocast():
            if embedding is None and key is not None:
                embedding = self._cache.get(key)
            if embedding is None:
                assert roi is not None  # checked by predict
                start = time.perf_counter()
                embedding = self._loaded.model.encode(self._to_device(roi)[None])
                self._synchronize()
                encode_ms, encoded = (time.perf_counter() - start) * 1000, True
                if key is not None:
                    self._cache.put(key, embedding)
            start = time.perf_counter()
            prompts = RoiPrompts(
                self._to_device(clicks_dhw)[None],
                torch.tensor([signs], device=self._loaded.device),
                self._to_device(previous)[None, None] if previous is not None else None,
                self._to_device(box_dhw)[None] if box_dhw is not None else None,
            )
            answer = self._loaded.model.decode(embedding, prompts)[0].float().cpu()
            decode_ms = (time.perf_counter() - start) * 1000
        return Prediction(answer, embedding, encoded, encode_ms, decode_ms)

    def _autocast(self) -> torch.autocast:
        # A context manager, because autocast is a state of the thread, which other requests use as well.
        reduced = self._dtype is torch.bfloat16
        return torch.autocast(self._loaded.device.type, dtype=torch.bfloat16, enabled=reduced)

    def _to_device(self, tensor: Tensor) -> Tensor:
        # MONAI's MetaTensor would carry its metadata through every layer.
        return tensor.as_subclass(Tensor).to(self._loaded.device, torch.float32)

    def _synchronize(self) -> None:
        if self._loaded.device.type == "cuda":
            torch.cuda.synchronize(self._loaded.device)
