"""The training loop: interactions with a simulated user, several processes, a moving average, resumable."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader

from lib.files.atomic_write import replacing
from lib.files.folders import remove_leftovers
from lib.training.distributed import agreed, average_gradients, rank, share_curve, start_alike
from lib.training.interaction import InteractionConfig
from lib.training.micro_batching import MicroBatching
from lib.training.network import Trainable
from lib.training.objective import Objective, Samples
from lib.training.state import MovingAverage, Point, Progress, load_state, save_state
from lib.training.stream import Stream
from lib.training.validation import peak_memory_mib

logger = logging.getLogger(__name__)

Given = TypeVar("Given", bound=Samples)

CLOCKS = {"wall": time.monotonic, "cpu": time.process_time}
"""Clocks of training, in seconds: wall time, or CPU time of this process on all its threads."""


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train.

    Attributes:
        minutes: Limit, including earlier runs that are resumed; None for no limit.
        steps: Limit. With this limit alone, a run can be repeated exactly on the same kind of machine.
        peak_lr: Learning rate after the warm-up; it then falls as a cosine.
        warm_up_steps: Steps until the peak.
        weight_decay: Of AdamW.
        gradient_norm: Largest norm, as in the published recipe.
        ema_decay: Of the moving average of the weights.
        report_s: Seconds between two points of the curve.
        report_steps: Steps between two points, in place of seconds.
        log_s: Seconds between two log lines with the progress and the time left; None for no such lines.
        patience: Training ends after so many points without a better Dice of the last answer, and gives the best
            average; None to train to the end and give the last one.
        seed: Of the interactions.
        workers: Processes that draw samples, for each process that trains.
        precision: One of `lib.models.precision.PRECISIONS`.
        interaction: How the simulated user interacts.
        clock: One of `CLOCKS`, for minutes and seconds. "cpu" ignores what else the machine does; it needs workers = 0,
            because it does not count other processes.
    """

    minutes: float | None = None
    steps: int | None = None
    peak_lr: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.01
    gradient_norm: float = 1.0
    ema_decay: float = 0.995
    report_s: float = 240.0
    report_steps: int | None = None
    log_s: float | None = None
    patience: int | None = None
    seed: int = 1
    workers: int = 0
    precision: str = "bf16"
    interaction: InteractionConfig = field(default_factory=InteractionConfig)
    clock: str = "wall"

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise ValueError("Training needs an end: give minutes or steps.")
        if self.clock not in CLOCKS:
            raise ValueError(f"The clock '{self.clock}' is unknown; choose from: {', '.join(CLOCKS)}.")
        if self.clock == "cpu" and self.workers:
            raise ValueError(f"The clock 'cpu' counts this process alone, not its {self.workers} workers: give none.")

    def done(self, progress: Progress) -> float:
        """Share of the training that is done."""
        by_time = progress.spent_s / (self.minutes * 60) if self.minutes is not None else 0.0
        by_step = progress.step / self.steps if self.steps is not None else 0.0
        return min(1.0, max(by_time, by_step))


def train(
    model: Trainable,
    objective: Objective[Given],
    stream: Stream[Given],
    validation: Mapping[str, Sequence[Given]],
    config: TrainingConfig,
    out: Path,
    on_report: Callable[[Progress], None] | None = None,
) -> Progress:
    """Trains all parameters that require gradients; at the end the model holds the average of the weights.

    With several processes (torch.distributed), each draws its own samples and gradients are averaged. The first one
    writes ``OUT/<size>_curve.json`` and ``OUT/<size>_state.pt``. A stopped run resumes from there with the same
    samples that it would have drawn.

    Args:
        model: Changed in place, on its device.
        objective: Loss and scores of the model.
        stream: Endless samples; its first step is set here.
        validation: Fixed batches of each data set by its name, on the first process.
        config: How long and how fast.
        out: Existing folder.
        on_report: Called at each point of the curve, on the first process.

    Raises:
        MemoryShortageError: It does not fit into memory.
    """
    size = model.config.size
    state_path, curve_path = out / f"{size}_state.pt", out / f"{size}_curve.json"
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parameters = list(trained.values())
    start_alike(parameters)
    device = parameters[0].device
    average = MovingAverage(model, config.ema_decay)
    optimizer = torch.optim.AdamW(parameters, lr=config.peak_lr, weight_decay=config.weight_decay, fused=True)
    progress = Progress()
    if not rank():
        remove_leftovers(out.glob(f"{size}_*.partial"))  # of a killed run: each may be as large as the state
    if state_path.exists():
        progress, values, averaged, moments = load_state(state_path)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(values[name])
        average.load(averaged)
        optimizer.load_state_dict(moments)
        logger.info("Resuming at step %d after %.1f min.", progress.step, progress.spent_s / 60)
    micro_batching = MicroBatching(model, stream.batch)
    stream.first_step = progress.step
    workers = config.workers
    batches = iter(DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None))
    losses: list[float] = []
    clock = CLOCKS[config.clock]
    last, reported_s, logged_s = clock(), progress.spent_s, progress.spent_s
    model.train()
    while config.done(progress) < 1 and not _is_stale(progress, config):
        batch = next(batches).to(device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, progress.step, config.done(progress))
        optimizer.zero_grad()
        step = progress.step

        def learn(part: Given, share: float, step: int = step) -> float:
            loss = share * objective.loss(part, step)
            loss.backward()
            return float(loss.detach())

        losses.append(micro_batching.accumulate(batch, learn))
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, config.gradient_norm)
        optimizer.step()
        progress.step += 1
        average.update(progress.step)
        now = clock()
        progress.spent_s, last = agreed(progress.spent_s + now - last), now
        if config.log_s is not None and progress.spent_s - logged_s >= config.log_s:
            logged_s = progress.spent_s
            logger.info("%s, loss=%.3g", _how_far(progress, config), np.mean(losses))
        if not _is_due(progress, reported_s, config):
            continue
        reported_s = progress.spent_s
        if rank() == 0:
            point: Point = {"step": progress.step, "minutes": progress.spent_s / 60, "loss": float(np.mean(losses))}
            point["memory_mib"] = peak_memory_mib(device)
            with average.applied():
                model.eval()
                point |= objective.scores(validation)
            model.train()
            progress.curve.append(point)
            _keep_best(progress, average, config)
            logger.info(" ".join(f"{name}={value:.4g}" for name, value in point.items()))
            # Curve first: whoever finds a finished state finds its curve as well.
            with replacing(curve_path) as partial:
                partial.write_text(json.dumps(progress.curve, indent=1))
            save_state(state_path, progress, trained, average.tensors, optimizer.state_dict())
            if on_report is not None:
                on_report(progress)
        share_curve(progress)
        losses.clear()
        last = clock()
    if progress.best is not None:
        average.load(progress.best[1])
    average.copy_to_model()
    model.eval()
    return progress


def learning_rate(config: TrainingConfig, step: int, done: float) -> float:
    """Linear warm-up over the first steps, then a cosine to the end of the training.

    Args:
        config: Peak and warm-up.
        step: Steps done.
        done: Share of the training that is done.
    """
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1)))
    return config.peak_lr * min(1.0, (step + 1) / config.warm_up_steps) * (0.01 + 0.99 * cosine)


def _how_far(progress: Progress, config: TrainingConfig) -> str:
    """Progress in words, for the log."""
    minutes, done = progress.spent_s / 60, config.done(progress)
    return f"step {progress.step}, {minutes:.1f} min, about {minutes * (1 - done) / done:.1f} min left"


def _is_due(progress: Progress, reported_s: float, config: TrainingConfig) -> bool:
    """Whether it is time for a report; the last step always has one."""
    if config.done(progress) >= 1:
        return True
    if config.report_steps is not None:
        return progress.step % config.report_steps == 0
    return progress.spent_s - reported_s >= config.report_s


def _value(point: Point) -> float:
    """Score of a point: Dice of the last answer, or negative loss without validation."""
    return next((value for name, value in point.items() if name.startswith("dice_")), -point["loss"])


def _keep_best(progress: Progress, average: MovingAverage, config: TrainingConfig) -> None:
    if config.patience is None:
        return
    value = _value(progress.curve[-1])
    if progress.best is None or value > progress.best[0]:
        progress.best = value, {name: tensor.clone() for name, tensor in average.tensors.items()}


def _is_stale(progress: Progress, config: TrainingConfig) -> bool:
    """Whether the best point lies too many reports back."""
    if config.patience is None or not progress.curve:
        return False
    values = [_value(point) for point in progress.curve]
    return len(values) - 1 - int(np.argmax(values)) >= config.patience
