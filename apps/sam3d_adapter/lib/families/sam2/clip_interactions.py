"""The objective of SAM 2: interactions with a simulated user, tracked through clips."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lib.families.sam2 import boundary, position
from lib.families.sam2.clips import Clip, Clips
from lib.families.sam2.propagation import (
    EMPTY,
    KEPT,
    UNASKED,
    Output,
    Propagation,
    SliceFeatures,
    SlicePrompts,
    Track,
    by_slice,
)
from lib.families.sam2.trained_network import TrainedNetwork
from lib.training.interaction import InteractionConfig, corrective_click
from lib.training.interactions import draw_length
from lib.training.state import Point
from lib.training.train import TrainingConfig
from lib.training.validation import autocast, dice, mean_scores

Place = tuple[int, tuple[float, float], int]
"""A prompt as `by_slice` takes it."""


class SliceAnswer(NamedTuple):
    """What the network answered in one slice.

    Attributes:
        number: of the slice.
        is_prompted: whether it had prompts.
        candidates: (M, P, P), logits of masks of which the network chooses one.
        qualities: (M,), what it says of the overlap of each with the truth.
        score: (), logit of the object's being in the slice.
        conditioned: (1, C, h, w), the output of memory attention.
    """

    number: int
    is_prompted: bool
    candidates: Tensor
    qualities: Tensor
    score: Tensor
    conditioned: Tensor


class ClipTracker(Propagation):
    """Tracks one object through a clip, with gradients.

    Args:
        network: is trained.
        features: of the slices.
        present: for each slice whether the object is in it; masks of those slices are answered even where the network
            says that it is not, for these have no gradient otherwise. None to take the network's word.

    Attributes:
        answers: since the last `answer` began.
    """

    def __init__(
        self, network: TrainedNetwork, features: Sequence[SliceFeatures], present: Sequence[bool] | None
    ) -> None:
        super().__init__(network.model, len(features))
        self._network, self._features, self._present = network, features, present
        self.answers: list[SliceAnswer] = []

    def step(self, number: int, memory: Mapping[str, Mapping[int, Output]], **asked: Any) -> Output:
        """As `Propagation.step`."""
        options = {**UNASKED, "prev_sam_mask_logits": None, **asked}
        # Later slices are added to the memory before the backward pass, which may compute this step again.
        memory = {kind: dict(outputs) for kind, outputs in memory.items()}

        def run() -> tuple[Output, SliceAnswer]:
            return self._run(number, memory, options)

        is_twice = self._network.gradient_checkpointing and torch.is_grad_enabled()
        output, answer = checkpoint(run, use_reentrant=False) if is_twice else run()
        self.answers.append(answer)
        return output

    def _run(
        self, number: int, memory: Mapping[str, Mapping[int, Output]], options: Mapping[str, Any]
    ) -> tuple[Output, SliceAnswer]:
        seen, is_there = self._features[number], self._present is not None and self._present[number]
        asked = {
            "current_vision_feats": seen.features,
            "feat_sizes": seen.sizes,
            "point_inputs": options["point_inputs"],
        }
        with _told(self._model.sam_mask_decoder, is_there) as said:
            output, answered, _, conditioned = self._model._track_step(
                **{**options, **asked},
                frame_idx=number,
                current_vision_pos_embeds=seen.positions,
                mask_inputs=None,
                output_dict=memory,
                num_frames=self._count,
            )
        _, candidates, qualities, mask, whole_mask, pointer, score = answered
        output |= {"pred_masks": mask, "obj_ptr": pointer, "object_score_logits": score}
        self._model._encode_memory_in_output(
            **asked, run_mem_encoder=True, high_res_masks=whole_mask, object_score_logits=score, current_out=output
        )
        is_prompted = options["point_inputs"] is not None
        answer = SliceAnswer(number, is_prompted, candidates[0], qualities[0], said[0][0, 0], conditioned)
        return {key: output[key] for key in KEPT}, answer


@contextmanager
def _told(decoder: nn.Module, is_there: bool) -> Iterator[list[Tensor]]:
    """Collects the object scores of a decoder; its caller is told that the object is there, where that is true."""
    said: list[Tensor] = []

    def tell(module: nn.Module, given: Any, answer: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        said.append(answer[3])
        return (*answer[:3], answer[3].clamp(min=1.0)) if is_there else answer

    handle = decoder.register_forward_hook(tell)
    try:
        yield said
    finally:
        handle.remove()


class Played(NamedTuple):
    """An answer in an interaction.

    Attributes:
        track: through the clip.
        answers: of all steps that it took.
        places: the prompts so far.
    """

    track: Track
    answers: list[SliceAnswer]
    places: list[Place]


class ClipInteractions:
    """Loss and scores of interactions with a simulated user, in clips.

    Args:
        network: is trained.
        config: has the interactions, their seed and the precision.
    """

    def __init__(self, network: TrainedNetwork, config: TrainingConfig) -> None:
        self._network, self._config = network, config
        self._mask_loss = DiceCELoss(sigmoid=True)

    def loss(self, samples: Clips, step: int) -> Tensor:
        """As `Objective.loss`."""
        rounds, with_box = draw_length(self._config.interaction, self._config.seed, step)
        losses = [self._loss(samples.clip(row), int(n), rounds, with_box) for row, n in enumerate(samples.numbers)]
        return torch.stack(losses).mean()

    def _loss(self, clip: Clip, number: int, rounds: int, with_box: bool) -> Tensor:
        with autocast(clip.images.device, self._config.precision):
            features, tap = self._network.encode(clip.images)
            present = clip.truths.flatten(1).any(1).tolist()
            tracker = ClipTracker(self._network, features, present)
            played = play(tracker, clip, number, rounds, self._config, with_box=with_box)
            given = [(answer, one.places) for one in (played[0], *played[1:][-1:]) for answer in one.answers]
            answers = [answer for answer, _ in given]
            losses = [self._slice_loss(answer, clip.truths[answer.number], places) for answer, places in given]
            loss = torch.stack(losses).mean()
            if self._network.position is not None:
                loss = loss + position.WEIGHT * self._network.position(tap[-1], clip.positions)
            if self._network.boundary is not None:
                # In a prompted slice, what memory attention gives does not know yet which object is meant.
                seen = [answer for answer in answers if not answer.is_prompted]
                found = [
                    self._network.boundary(tap[1][one.number][None], one.conditioned, clip.truths[one.number])
                    for one in seen
                ]
                loss = loss + boundary.WEIGHT * torch.stack(found).mean() if found else loss
        return loss

    def _slice_loss(self, answer: SliceAnswer, truth: Tensor, places: Sequence[Place]) -> Tensor:
        """As SAM 2 is trained: the best of the masks, what is said of each, and whether the object is there.

        As with other networks, clicked pixels count for more in a prompted slice.
        """
        is_there = truth.any().float()
        score_loss = F.binary_cross_entropy_with_logits(answer.score.float(), is_there)
        if not is_there:
            return score_loss
        logits = answer.candidates.float()
        masks = [self._mask_loss(one[None, None], truth[None, None].float()) for one in logits]
        clicks = [(point, label) for number, point, label in places if number == answer.number and label < 2]
        if answer.is_prompted and clicks:
            x, y = torch.tensor([point for point, _ in clicks], device=truth.device).long().unbind(1)
            labels = torch.tensor([float(label) for _, label in clicks], device=truth.device)
            weight = self._config.interaction.click_weight
            masks = [
                mask + weight * F.binary_cross_entropy_with_logits(one[y, x], labels)
                for mask, one in zip(masks, logits, strict=True)
            ]
        held = logits.detach() > 0
        overlap = (held & truth).flatten(1).sum(1) / (held | truth).flatten(1).sum(1)
        return torch.stack(masks).amin() + F.mse_loss(answer.qualities.float(), overlap) + score_loss

    @torch.no_grad()
    def scores(self, data_sets: Mapping[str, Sequence[Clips]]) -> Point:
        """As `Objective.scores`: ``dice`` of a clip after one click, ``dice_N`` after N clicks, and ``obeyed``."""
        keys = ("dice", f"dice_{len(self._config.interaction.rounds)}", "obeyed")
        points: dict[str, Point] = {}
        for name, given in data_sets.items():
            found = [self._score(one) for batch in given for one in _clips(batch)]
            points[name] = dict(zip(keys, np.mean(found, axis=0).tolist(), strict=True)) if found else {}
        return mean_scores(points)

    def _score(self, sample: tuple[int, Clip]) -> tuple[float, float, float]:
        number, clip = sample
        clip = Clip(*(part.to(next(self._network.parameters()).device) for part in clip))
        with autocast(clip.images.device, self._config.precision):
            tracker = ClipTracker(self._network, self._network.encode(clip.images)[0], None)
            rounds = len(self._config.interaction.rounds)
            played = play(tracker, clip, number, rounds, self._config)
        first, last = played[0], played[-1]
        masks = [_mask(one.track, clip.truths) for one in (first, last)]
        hit = [bool(masks[1][n, int(y), int(x)]) == bool(label) for n, (x, y), label in last.places]
        return dice(masks[0], clip.truths), dice(masks[1], clip.truths), float(np.mean(hit))


def _clips(samples: Clips) -> Iterator[tuple[int, Clip]]:
    for row, number in enumerate(samples.numbers.tolist()):
        yield number, samples.clip(row)


def play(
    tracker: ClipTracker, clip: Clip, number: int, rounds: int, config: TrainingConfig, *, with_box: bool = False
) -> list[Played]:
    """Plays one interaction, as the server would answer it.

    Gradients flow through the first and the last answer. Those between are only corrected, and their answers of slices
    are not kept.

    Args:
        tracker: of the clip.
        clip: slices, truth and first click; recorded clicks come before simulated ones.
        number: of the sample.
        rounds: answers to give; fewer where an answer is right.
        config: of the interactions.
        with_box: whether the user starts with a box in place of a click.
    """
    rng = np.random.default_rng([config.seed, number, 1])
    slice_, x, y = clip.first.tolist()
    places: list[Place] = [(int(slice_), (x, y), 1)]
    if with_box and clip.truths[int(slice_)].any():
        places = _draw_box(int(slice_), clip.truths[int(slice_)], config.interaction, rng)
    known: dict[tuple[SlicePrompts, ...], Track] = {}
    played: list[Played] = []
    for round_ in range(rounds):
        is_end = round_ in (0, rounds - 1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and is_end):
            track = _answered(tracker, places, known)
        played.append(Played(track, tracker.answers if is_end else [], places))
        if round_ == rounds - 1:
            break
        click = _next_click(track, clip, round_, config.interaction, rng)
        if click is None:
            break
        places = [*places, click]
    return played


def _answered(tracker: ClipTracker, places: Sequence[Place], known: dict[tuple[SlicePrompts, ...], Track]) -> Track:
    """The track after all prompts; what was answered to the first of them before is not answered again."""
    # Foreground first: a request does not say which of the two kinds came when.
    prompts = by_slice(sorted(places, key=lambda place: place[2] == 0))
    track = EMPTY
    for count in range(1, len(prompts) + 1):
        key = tuple(prompts[:count])
        if key in known:
            track = known[key]
            continue
        tracker.answers = []
        track = tracker.answer(track, prompts[count - 1])
        known[key] = _detached(track)
    return track


def _detached(track: Track) -> Track:
    def cut(output: Output) -> Output:
        return {key: value.detach() if isinstance(value, Tensor) else value for key, value in output.items()}

    logits = {number: logit.detach() for number, logit in track.logits.items()}
    return Track(logits, {number: cut(output) for number, output in track.conditioning.items()})


def _mask(track: Track, truths: Tensor) -> Tensor:
    """(D, P, P) bool."""
    logits = torch.cat([track.logits[number].detach().float() for number in range(len(truths))])
    return F.interpolate(logits, tuple(truths.shape[1:]), mode="bilinear")[:, 0] > 0


def _next_click(
    track: Track, clip: Clip, round_: int, interaction: InteractionConfig, rng: np.random.Generator
) -> Place | None:
    if round_ < len(clip.recorded):
        number, x, y, sign = clip.recorded[round_].tolist()
        return int(number), (x, y), int(sign)
    answer, truth = (mask.cpu().numpy() for mask in (_mask(track, clip.truths), clip.truths))
    found = corrective_click(answer, truth, rng, hit_share=interaction.hit_share)
    if found is None:
        return None
    (number, row, column), sign = found[0].tolist(), found[1]
    return number, (column + 0.5, row + 0.5), int(sign)


def _draw_box(number: int, truth: Tensor, interaction: InteractionConfig, rng: np.random.Generator) -> list[Place]:
    """Two corners of a box around the object in a slice, each side moved at random."""
    where = truth.nonzero().flip(1).cpu().numpy()  # x, y
    ends = np.stack([where.min(0), where.max(0) + 1]).astype(float)
    ends += rng.normal(0, interaction.box_jitter, (2, 2)) * (ends[1] - ends[0])
    (left, top), (right, bottom) = ends.clip(0, truth.shape[-1]).tolist()
    return [(number, (left, top), 2), (number, (right, bottom), 3)]
