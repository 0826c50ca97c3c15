"""The training loop: dialogues with a simulated user, several processes, a moving average, a state to go on from."""

import copy
import json
import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from monai.losses import DiceCELoss
from torch import Tensor
from torch.utils.data import DataLoader

from lib.learning.interaction import InteractionConfig, dialogue_loss, play
from lib.learning.pools import RoiStream
from lib.models.sam3d import Sam3dAdapter

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast.

    Attributes:
        minutes: Of training, those of earlier runs that are gone on with included.
        peak_lr: Learning rate after warming up, from which a cosine falls.
        warm_up_steps: To reach it.
        weight_decay: AdamW's.
        gradient_norm: Largest, as in the published recipe.
        ema_decay: Of the moving average of the weights, which is what training gives.
        report_s: Seconds between two points of the curve.
        seed: Of the dialogues.
        workers: Processes that draw samples, for each that trains.
        interaction: How dialogues are played.
    """

    minutes: float
    peak_lr: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.01
    gradient_norm: float = 1.0
    ema_decay: float = 0.995
    report_s: float = 240.0
    seed: int = 1
    workers: int = 0
    interaction: InteractionConfig = field(default_factory=InteractionConfig)


def rank() -> int:
    """Of this process among those that train together; 0 where it trains alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def train(
    model: Sam3dAdapter, stream: RoiStream, validation: Sequence[Batch], config: TrainingConfig, out: Path
) -> Sam3dAdapter:
    """Train what requires gradients until the time is up; return the moving average of the weights.

    Of several processes (torch.distributed) each draws its own samples; gradients are averaged, and the first keeps
    average, curve and state: ``OUT/<size>_curve.json``, ``OUT/<size>_state.pt``. A run that was stopped goes on there.

    Args:
        model: Changed in place.
        stream: Endless samples; goes on with another seed after a stop.
        validation: Fixed batches, on the first process.
        config: How.
        out: Existing folder.
    """
    size = model.config.size
    state_path, curve_path = out / f"{size}_state.pt", out / f"{size}_curve.json"
    parameters = [p for p in model.parameters() if p.requires_grad]
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(parameters, lr=config.peak_lr, weight_decay=config.weight_decay, fused=True)
    mask_loss = DiceCELoss(include_background=False, softmax=True, to_onehot_y=True)
    step, spent, curve = 0, 0.0, []
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, curve = state["step"], state["spent_s"], state["curve"]
        logger.info("Going on at step %d after %.1f min.", step, spent / 60)
    stream.seed += step
    rng = np.random.default_rng([config.seed, step, rank()])
    # Of all processes the same, so that none waits for another's longer dialogue.
    lengths = np.random.default_rng([config.seed, step])
    workers = config.workers
    batches = iter(DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None))
    losses: list[float] = []
    model.train()
    last, reported = time.monotonic(), spent
    while spent < config.minutes * 60:
        rois, truths, clicks = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step, spent / (config.minutes * 60))
        rounds = 1 + int(lengths.choice(len(config.interaction.rounds), p=config.interaction.rounds))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answers = play(model, rois, truths, clicks, rounds, config.interaction, rng)
        loss = dialogue_loss(answers, truths, mask_loss, config.interaction)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, config.gradient_norm)
        optimizer.step()
        step += 1
        decay = min(config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        losses.append(loss.item())
        now = time.monotonic()
        spent, last = _agreed(spent + now - last), now
        if rank():
            continue
        if spent - reported >= config.report_s or spent >= config.minutes * 60:
            reported = spent
            point = {"step": step, "minutes": spent / 60, "loss": float(np.mean(losses))}
            point |= validate(average, validation, config.interaction)
            curve.append(point)
            logger.info(" ".join(f"{name}={value:.4g}" for name, value in point.items()))
            losses.clear()
            curve_path.write_text(json.dumps(curve, indent=1))
            state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            partial = state_path.with_suffix(".partial")
            torch.save(state | {"step": step, "spent_s": spent, "curve": curve}, partial)
            partial.replace(state_path)
            last = time.monotonic()
    return average


@torch.no_grad()
def validate(model: Sam3dAdapter, batches: Iterable[Batch], config: InteractionConfig) -> dict[str, float]:
    """Mean Dice of the first and the last answer of the longest dialogues, and the share of clicks that it obeys."""
    rng = np.random.default_rng(0)
    rounds = len(config.rounds)
    first, final, obeyed = [], [], []
    for rois, truths, clicks in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answers = play(model, rois, truths, clicks[:, :1], rounds, config, rng)
        masks = [logits[:, 1:] > logits[:, :1] for logits, _ in (answers[0], answers[-1])]
        first += [dice(p, t) for p, t in zip(masks[0], truths, strict=True)]
        final += [dice(p, t) for p, t in zip(masks[1], truths, strict=True)]
        prompts = answers[-1][1]
        batch = torch.arange(len(rois))[:, None]
        d, h, w = prompts.clicks_dhw.long().unbind(-1)
        obeyed += (masks[1][:, 0][batch, d, h, w] == prompts.foreground).float().flatten().tolist()
    return {"dice": float(np.mean(first)), f"dice_{rounds}": float(np.mean(final)), "obeyed": float(np.mean(obeyed))}


def dice(prediction: Tensor, truth: Tensor) -> float:
    """Dice of two boolean masks, 0 if the prediction is empty."""
    return float(2 * (prediction & truth).sum() / (prediction.sum() + truth.sum()).clamp(min=1))


def learning_rate(config: TrainingConfig, step: int, progress: float) -> float:
    """Warm up over the first steps, then a cosine over the time that was granted."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1)))
    return config.peak_lr * min(1.0, (step + 1) / config.warm_up_steps) * (0.01 + 0.99 * cosine)


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """The mean of each gradient over the processes; does nothing where one trains alone.

    Not DistributedDataParallel: a dialogue runs the decoder several times for one backward pass, and which parts a
    batch needs depends on its clicks.
    """
    if not dist.is_initialized():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.copy_(flat[offset : offset + parameter.numel()].view_as(parameter))
        offset += parameter.numel()


def _agreed(value: float) -> float:
    """The first process's value, so that all stop at the same step."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(tensor, 0)
    return float(tensor)
