"""One ROI and its clicks to logits: encode at most once per ROI, decode each step of the dialogue at most once."""

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.families.family import Embedding
from lib.inference.embedding_cache import EmbeddingCache
from lib.inference.model_store import LoadedModel
from lib.inference.precision import resolve_precision
from lib.models.prompts import Prompts

SINGLE_STEPS = 10
"""Clicks that are answered one by one by a model that reads its previous answer; those beyond, in groups of as many."""


class PredictorError(ValueError):
    """A prediction that was asked for with parts that do not fit."""


@dataclass(frozen=True)
class Prediction:
    """Answer for one set of clicks.

    Attributes:
        logits: (2, D, H, W) float32 on the CPU, before softmax; channel 1 is the foreground.
        encoded: False where the embedding came from the cache.
        decodes: how often the decoder ran; 0 where this very answer was cached.
        encode_ms: time of the image encoder, ms; 0 where cached.
        decode_ms: time of all decoding, ms.
    """

    logits: Tensor
    encoded: bool
    decodes: int
    encode_ms: float
    decode_ms: float


@dataclass(frozen=True)
class _Beside:
    """What was said beside the clicks; see `Predictor.predict`."""

    box_dhw: Tensor | None
    start: Tensor | None
    start_key: Hashable | None

    @property
    def is_known(self) -> bool:
        """Whether `key` tells it from everything else."""
        return self.start is None or self.start_key is not None

    def key(self) -> tuple[Hashable, ...]:
        """Part of the key of a step; empty where there is nothing beside the clicks."""
        if self.box_dhw is None and self.start is None:
            return ()
        box = None if self.box_dhw is None else tuple(self.box_dhw.flatten().tolist())
        return box, None if self.start is None else self.start_key


class Predictor:
    """Runs one loaded model.

    The answer is a pure function of model version, ROI content and all that the user said: clicks, box and the mask to
    start from. A model that reads its previous answer is led through the clicks one by one, in the order in which they
    are given, from the first on, and beyond the tenth in groups of ten, so that a request of hundreds of clicks does
    not hold up the server. Whatever the cache still holds of these steps saves time and changes nothing, because a step
    is found by all that was said up to it.

    Args:
        loaded: the model, its version, its device and the device's lock.
        cache: shared by all predictors of the process.
        precision: one of ``lib.inference.precision.PRECISIONS``.
    """

    def __init__(self, loaded: LoadedModel, cache: EmbeddingCache, precision: str = "fp32") -> None:
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
    def feeds_back(self) -> bool:
        """Whether a mask to start from may be given."""
        return self._loaded.model.feeds_back

    @property
    def uses_box(self) -> bool:
        """Whether a box may be given."""
        return self._loaded.model.uses_box

    @property
    def uses_background(self) -> bool:
        """Whether background clicks may be given."""
        return self._loaded.model.uses_background

    def predict(
        self,
        roi: Tensor | None,
        clicks_dhw: Tensor,
        is_foreground: Sequence[bool] | None = None,
        *,
        key: Hashable | None = None,
        embedding: Embedding | None = None,
        box_dhw: Tensor | None = None,
        start: Tensor | None = None,
        start_key: Hashable | None = None,
    ) -> Prediction:
        """Segments what the clicks point at.

        Args:
            roi: (1, D, H, W) float32 normalised, zero outside the image; may be None where ``embedding`` is given.
            clicks_dhw: (N, 3) voxel indices of the ROI, order D, H, W, in the order in which they count; at least one.
            is_foreground: (N,) on the structure as opposed to beside it, the first one true; None for all.
            key: identifies volume content, ROI, intensity rule and ``version``; None to bypass the cache.
            embedding: what an earlier look-up of ``key`` found.
            box_dhw: (2, 3) first and last voxel of a box around the structure, ROI indices; for each step.
            start: (D, H, W) foreground logit that the first step corrects.
            start_key: identifies ``start`` on this ROI; None to bypass the cache of steps.

        Raises:
            PredictorError: no click, a click array of another shape, a background click that is first or that the model
                does not know, likewise a box or a start, neither ROI nor embedding.
            torch.OutOfMemoryError: even after the cache was emptied.
        """
        if clicks_dhw.ndim != 2 or clicks_dhw.shape[0] == 0 or clicks_dhw.shape[1] != 3:
            raise PredictorError(f"Clicks of shape {tuple(clicks_dhw.shape)}; (N, 3) with N of at least 1 is needed.")
        signs = tuple(map(bool, is_foreground)) if is_foreground is not None else (True,) * len(clicks_dhw)
        if len(signs) != len(clicks_dhw) or not signs[0]:
            raise PredictorError(f"{len(signs)} signs of {len(clicks_dhw)} clicks; one each, the first foreground.")
        if not all(signs) and not self.uses_background:
            raise PredictorError("This model knows no background clicks.")
        if roi is None and embedding is None:
            raise PredictorError("Neither an ROI nor its embedding was given.")
        if (box_dhw is not None and not self.uses_box) or (start is not None and not self.feeds_back):
            raise PredictorError("This model reads no box, or no mask to start from, but one was given.")
        beside = _Beside(box_dhw, start, start_key)
        try:
            return self._predict(roi, clicks_dhw, signs, key, embedding, beside)
        except torch.OutOfMemoryError:
            # What is cached lies on the device too; without it the click may fit.
            self._cache.clear()
            torch.cuda.empty_cache()
            return self._predict(roi, clicks_dhw, signs, key, embedding, beside)

    def _predict(
        self,
        roi: Tensor | None,
        clicks_dhw: Tensor,
        signs: tuple[bool, ...],
        key: Hashable | None,
        embedding: Embedding | None,
        beside: "_Beside",
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
            logits, decodes = self._decode(embedding, self._to_device(clicks_dhw), signs, key, beside)
            answer = logits[0].float().cpu()
            decode_ms = (time.perf_counter() - start) * 1000
        return Prediction(answer, encoded, decodes, encode_ms, decode_ms)

    def _decode(
        self, embedding: Embedding, clicks: Tensor, signs: tuple[bool, ...], key: Hashable | None, beside: "_Beside"
    ) -> tuple[Tensor, int]:
        """The logits (1, 2, D, H, W) of the last step, and how many steps had to be worked out."""
        model, count = self._loaded.model, len(clicks)
        is_foreground = torch.tensor([signs], device=clicks.device)
        box = None if beside.box_dhw is None else self._to_device(beside.box_dhw)[None]
        start = None if beside.start is None else self._to_device(beside.start)[None, None]
        if not model.feeds_back:
            return model.decode(embedding, Prompts(clicks[None], is_foreground, None, box)), 1
        # Steps by all the clicks up to them: whoever asked, and in whatever order requests came.
        said = tuple(zip(map(tuple, clicks.tolist()), signs, strict=True))
        ends = step_ends(count)
        is_kept = key is not None and beside.is_known
        steps = [("step", key, said[:end], *beside.key()) if is_kept else None for end in ends]
        logits, done = None, 0
        for n in reversed(range(len(ends))):
            if steps[n] is not None and (held := self._cache.get(steps[n])) is not None:
                logits, done = held, n + 1
                break
        for end, step in zip(ends[done:], steps[done:], strict=True):
            previous = start if logits is None else logits[:, 1:] - logits[:, :1]
            prompts = Prompts(clicks[None, :end], is_foreground[:, :end], previous, box)
            logits = model.decode(embedding, prompts).float()
            if step is not None:
                self._cache.put(step, logits)
        assert logits is not None  # there is at least one click
        return logits, len(ends) - done

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


def step_ends(count: int) -> list[int]:
    """How many clicks each step of a dialogue has, up to ``count``: 1, 2, ..., 10, 20, 30, ..., count."""
    singles = range(1, min(count, SINGLE_STEPS) + 1)
    return [*singles, *range(2 * SINGLE_STEPS, count, SINGLE_STEPS), *([count] if count > SINGLE_STEPS else [])]
