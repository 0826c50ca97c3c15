"""Interactions with a simulated user, who clicks where the mask is most wrong; each mask is fed back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.evaluation.simulated_user import depth_in_largest_error
from lib.models.prompts import RoiPrompts
from lib.training.network import Network
from lib.training.stream import Batch


@dataclass(frozen=True)
class InteractionConfig:
    """How the simulated user interacts.

    Attributes:
        rounds: Share of the interactions that end after 1, 2, ... answers.
        hit_share: Share of corrective clicks at the deepest voxels of the error; the others fall anywhere in its inner
            half, as people's clicks do.
        box_share: Share of the interactions that start with a box as well.
        box_jitter: Standard deviation of each face of a box, as a share of its side.
        click_weight: Weight of the loss at the clicked voxels.
    """

    rounds: tuple[float, ...] = (0.4, 0.2, 0.15, 0.15, 0.1)
    hit_share: float = 0.5
    box_share: float = 0.1
    box_jitter: float = 0.1
    click_weight: float = 0.1


def corrective_click(
    answer: np.ndarray, truth: np.ndarray, rng: np.random.Generator, *, hit_share: float
) -> tuple[np.ndarray, bool] | None:
    """A click in the largest connected error.

    Args:
        answer: (D, H, W) bool.
        truth: (D, H, W) bool.
        rng: Source of the draws.
        hit_share: See `InteractionConfig`.

    Returns:
        Voxel (3,) and whether it belongs to the truth; None where the answer is right.
    """
    found = depth_in_largest_error(answer != truth)
    if found is None:
        return None
    depth, start = found
    share = 1.0 if rng.random() < hit_share else 0.5
    candidates = np.argwhere(depth >= share * depth.max())
    voxel = candidates[rng.integers(len(candidates))] + start
    return voxel, bool(truth[tuple(voxel)])


def draw_boxes(truths: Tensor, config: InteractionConfig, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Boxes (B, 2, 3) around the visible part of the objects, each face moved at random, within the ROI.

    Args:
        truths: (B, 1, D, H, W) bool; where it is empty, the box is the ROI.
        config: How far faces move.
        rngs: Source of the draws, one for each row.
    """
    boxes = []
    for truth, rng in zip(truths[:, 0], rngs, strict=True):
        where = truth.nonzero() if truth.any() else torch.ones_like(truth).nonzero()
        low, high = where.amin(0).float(), where.amax(0).float()
        moved = torch.from_numpy(rng.normal(0, config.box_jitter, (2, 3))).float() * (high - low + 1)
        boxes.append(torch.stack([low, high]) + moved)
    return torch.stack(boxes).clamp(torch.zeros(3), torch.tensor(truths.shape[2:]) - 1.0)


def play(
    model: Network, batch: Batch, rounds: int, config: InteractionConfig, *, with_box: bool = False, seed: int = 0
) -> list[tuple[Tensor, RoiPrompts]]:
    """Plays the interactions of a batch; each row has its own random draws.

    Gradients flow through the first and the last answer. Those between are only corrected.

    Args:
        model: Answers, on the device of the batch.
        batch: Regions, truths and first clicks; recorded clicks come before simulated ones.
        rounds: Answers to give.
        config: Of the interactions.
        with_box: Whether the user starts with a box as well.
        seed: Of the draws, together with each row's number.

    Returns:
        Logits (B, 2, D, H, W) of the first and, where there are several, of the last answer, each with its prompts.
    """
    rngs = [np.random.default_rng([seed, int(number), 1]) for number in batch.numbers]
    clicks = batch.clicks_dhw
    signs = torch.ones(clicks.shape[:2], dtype=torch.bool, device=clicks.device)
    box = draw_boxes(batch.truths.cpu(), config, rngs).to(clicks.device) if with_box else None
    prompts = RoiPrompts(clicks, signs, None, box)
    embedding = model.encode(batch.rois)
    answers = []
    for number in range(rounds):
        with torch.set_grad_enabled(torch.is_grad_enabled() and number in (0, rounds - 1)):
            logits = model.decode(embedding, prompts)
        if number in (0, rounds - 1):
            answers.append((logits, prompts))
        if number < rounds - 1:
            prompts = _corrected(prompts, logits.detach().float(), batch, number, config, rngs)
    return answers


def interaction_loss(
    answers: Sequence[tuple[Tensor, RoiPrompts]], truths: Tensor, mask_loss: torch.nn.Module, config: InteractionConfig
) -> Tensor:
    """Loss of the mask plus weighted loss at the clicked voxels, which a click has to decide; mean over the answers.

    Args:
        answers: From `play`.
        truths: (B, 1, D, H, W) bool.
        mask_loss: Of foreground logits (B, 1, D, H, W) and float truths.
        config: Weighs the two.
    """
    truths = truths.float()
    losses = []
    for logits, prompts in answers:
        # A sigmoid of the difference of two logits equals their softmax, and costs half as much.
        background, foreground = logits.split(1, dim=1)
        foreground = foreground.float() - background.float()
        batch = torch.arange(len(foreground))[:, None]
        last = foreground.shape[-1] - 1
        d, h, w = prompts.clicks_dhw.round().long().clamp(0, last).unbind(-1)
        at_clicks = F.binary_cross_entropy_with_logits(foreground[batch, 0, d, h, w], prompts.foreground.float())
        losses.append(mask_loss(foreground, truths) + config.click_weight * at_clicks)
    return torch.stack(losses).mean()


def _corrected(
    prompts: RoiPrompts,
    logits: Tensor,
    batch: Batch,
    number: int,
    config: InteractionConfig,
    rngs: Sequence[np.random.Generator],
) -> RoiPrompts:
    """The prompts of the next round: one more click in each row, and the previous mask."""
    previous = logits[:, 1:] - logits[:, :1]
    recorded = batch.recorded[:, number].cpu() if number < batch.recorded.shape[1] else None
    answers, truths = (previous > 0).cpu().contiguous().numpy()[:, 0], batch.truths.cpu().numpy()[:, 0]
    clicks, signs = [], []
    for row, rng in enumerate(rngs):
        if recorded is not None and not recorded[row].isnan().any():
            voxel, sign = recorded[row, :3].numpy(), bool(recorded[row, 3])
        else:
            found = corrective_click(answers[row], truths[row], rng, hit_share=config.hit_share)
            # Where nothing is wrong, repeat the first click, which changes nothing.
            voxel, sign = (prompts.clicks_dhw[row, 0].cpu().numpy(), True) if found is None else found
        clicks.append(torch.as_tensor(voxel, dtype=torch.float32))
        signs.append(sign)
    device = prompts.clicks_dhw.device
    return RoiPrompts(
        torch.cat([prompts.clicks_dhw, torch.stack(clicks)[:, None].to(device)], dim=1),
        torch.cat([prompts.foreground, torch.tensor(signs, device=device)[:, None]], dim=1),
        previous,
        prompts.box_dhw,
    )
