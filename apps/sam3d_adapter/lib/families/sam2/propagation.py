"""One object through the slices of a volume: prompted in some, tracked into all others.

Everything here is a pure function of the slices and the prompts. The prompted slices are answered one after the other:
the first by its prompts alone, each further one with what is remembered of those before, as a correction of the mask
that it had. All of them are conditioning slices. After each, the object is tracked upwards from the lowest of them and
downwards from the highest; a slice between two takes the answer that came from the nearer one.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from lib.segmenters.contract import Stages

CLAMP = 32.0
"""Of the logits of a mask that is corrected; larger ones can make the decoder's numbers run over."""
Output = dict[str, Any]


class SliceFeatures(NamedTuple):
    """What the image encoder gives for a slice; the same for all users and objects.

    Attributes:
        features: by level, finest first: (h * w, 1, channels).
        positions: their position encodings, of the same shapes.
        sizes: (h, w) by level.
    """

    features: list[Tensor]
    positions: list[Tensor]
    sizes: list[tuple[int, int]]


@dataclass(frozen=True)
class SlicePrompts:
    """The prompts in one slice.

    Attributes:
        number: of the slice.
        points: (P, 2): x, y in pixels of the square.
        labels: (P,): 1 on the object, 0 beside it, 2 and 3 two opposite corners of a box.
    """

    number: int
    points: tuple[tuple[float, float], ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Track:
    """An object in all slices, after some prompted slices.

    Attributes:
        logits: by slice: (1, 1, h, w), low resolution; a slice that was not reached is missing.
        conditioning: by slice: what is remembered of the prompted ones.
    """

    logits: Mapping[int, Tensor]
    conditioning: Mapping[int, Output]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        kept = [value for output in self.conditioning.values() for value in output.values()]
        return sum(tensor.nbytes for tensor in (*self.logits.values(), *kept) if isinstance(tensor, Tensor))


EMPTY = Track({}, {})


def encode_slice(model: SAM2Base, image: Tensor) -> SliceFeatures:
    """The features of a slice, (1, 3, pixels, pixels)."""
    _, features, positions, sizes = model._prepare_backbone_features(model.forward_image(image))
    return SliceFeatures(features, positions, sizes)


class Propagation(ABC):
    """Tracks one object through consecutive slices: the same in serving and in training.

    Args:
        model: in eval mode.
        count: slices.
    """

    def __init__(self, model: SAM2Base, count: int) -> None:
        self._model, self._count = model, count
        self._device = next(model.parameters()).device

    @abstractmethod
    def step(self, number: int, memory: Mapping[str, Mapping[int, Output]], **asked: Any) -> Output:
        """What the network answers in one slice.

        Args:
            number: of the slice.
            memory: outputs of other slices, as `SAM2Base.track_step` takes them.
            asked: prompts and direction, by the names of `SAM2Base.track_step`.

        Returns:
            What other slices may remember of it, and ``pred_masks``, (1, 1, h, w) logits.
        """

    def answer(self, before: Track, prompts: SlicePrompts, stop_after: int | None = None) -> Track:
        """The track after one more prompted slice.

        Args:
            before: after the slices that were prompted earlier, this one not among them.
            prompts: of this slice, all of them.
            stop_after: as `sweep`.
        """
        conditioning = {**before.conditioning, prompts.number: self.prompt(before, prompts)}
        return Track(self.track(conditioning, stop_after), conditioning)

    def prompt(self, before: Track, prompts: SlicePrompts) -> Output:
        """What the network answers in the prompted slice: by the prompts alone, or as a correction of what it had."""
        points = {
            "point_coords": torch.tensor([prompts.points], dtype=torch.float32, device=self._device),
            "point_labels": torch.tensor([prompts.labels], dtype=torch.int32, device=self._device),
        }
        had = before.logits.get(prompts.number)
        is_first = not before.conditioning
        return self.step(
            prompts.number,
            {"cond_frame_outputs": dict(before.conditioning), "non_cond_frame_outputs": {}},
            point_inputs=points,
            is_init_cond_frame=is_first,
            prev_sam_mask_logits=None if had is None else had.to(self._device).clamp(-CLAMP, CLAMP),
        )

    def track(self, conditioning: Mapping[int, Output], stop_after: int | None = None) -> dict[int, Tensor]:
        """Logits by slice, tracked in both directions; a slice takes the answer from the nearer conditioning slice."""
        up = self.sweep(conditioning, upwards=True, stop_after=stop_after)
        down = self.sweep(conditioning, upwards=False, stop_after=stop_after)
        logits = {}
        for number in sorted({*up, *down}):
            below = min((number - at for at in conditioning if at <= number), default=self._count)
            above = min((at - number for at in conditioning if at >= number), default=self._count)
            logits[number] = up[number] if below <= above else down[number]
        return logits

    def sweep(
        self, conditioning: Mapping[int, Output], *, upwards: bool, stop_after: int | None = None
    ) -> dict[int, Tensor]:
        """Tracks from the lowest conditioning slice to the last slice, or from the highest to the first.

        Args:
            conditioning: of the prompted slices, at least one.
            upwards: in which direction.
            stop_after: slices in a row without the object, beyond the last conditioning slice, after which it ends.

        Returns:
            Logits by slice; those of conditioning slices are their own.
        """
        low, high = min(conditioning), max(conditioning)
        step = 1 if upwards else -1
        tracked: dict[int, Output] = {}
        memory = {"cond_frame_outputs": dict(conditioning), "non_cond_frame_outputs": tracked}
        logits, without = {}, 0
        for number in range(low, self._count) if upwards else range(high, -1, -1):
            if number in conditioning:
                logits[number] = conditioning[number]["pred_masks"]
                continue
            output = tracked[number] = self.step(number, memory, track_in_reverse=not upwards)
            # No slice attends to one farther away than the object pointers reach.
            tracked.pop(number - step * self._model.max_obj_ptrs_in_encoder, None)
            logits[number] = output["pred_masks"]
            without = without + 1 if float(output["object_score_logits"].detach()) <= 0 else 0
            is_beyond = number > high if upwards else number < low
            if is_beyond and stop_after is not None and without >= stop_after:
                break
        return logits


class Tracker(Propagation):
    """Tracks one object through the slices of one volume, for the user.

    Args:
        model: in eval mode.
        lock: held around every step of the network.
        features: of a slice by its number.
        count: slices of the volume.
        stages: takes the times.

    Attributes:
        steps: of the network so far, one for each slice that was answered.
    """

    def __init__(
        self,
        model: SAM2Base,
        lock: threading.Lock,
        features: Callable[[int], SliceFeatures],
        count: int,
        stages: Stages,
    ) -> None:
        super().__init__(model, count)
        self._lock, self._features, self._stages = lock, features, stages
        self.steps = 0

    def step(self, number: int, memory: Mapping[str, Mapping[int, Output]], **asked: Any) -> Output:
        """As `Propagation.step`, without gradients."""
        seen = self._features(number)
        # Not under inference_mode: the tables of positions would become tensors that no training can use any more.
        with self._lock, torch.no_grad(), self._stages.time("decode"):
            output = self._model.track_step(
                frame_idx=number,
                current_vision_feats=seen.features,
                current_vision_pos_embeds=seen.positions,
                feat_sizes=seen.sizes,
                mask_inputs=None,
                output_dict=memory,
                num_frames=self._count,
                **{**UNASKED, **asked},
            )
        self.steps += 1
        return {key: output[key] for key in KEPT}


def by_slice(points: Iterable[tuple[int, tuple[float, float], int]]) -> list[SlicePrompts]:
    """Prompts in the order in which their slices are answered: that in which each slice comes up first.

    Args:
        points: slice, (x, y) in pixels of the square, and label as `SlicePrompts` has it.
    """
    found: dict[int, tuple[list[tuple[float, float]], list[int]]] = {}
    for number, point, label in points:
        places, labels = found.setdefault(number, ([], []))
        places.append(point)
        labels.append(label)
    return [SlicePrompts(number, tuple(places), tuple(labels)) for number, (places, labels) in found.items()]


UNASKED = {"is_init_cond_frame": False, "point_inputs": None, "track_in_reverse": False}
"""What a step is asked where nobody says otherwise."""
KEPT = ("maskmem_features", "maskmem_pos_enc", "obj_ptr", "pred_masks", "object_score_logits")
"""What is remembered of a slice."""
