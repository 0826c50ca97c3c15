"""The training loop: dialogues with a simulated user, several processes, a moving average, a state to go on from."""

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch.utils.data import DataLoader

from lib.training.average import MovingAverage
from lib.training.distributed import agreed, average_gradients, rank, share_curve, start_alike
from lib.training.interaction import InteractionConfig, dialogue_loss, play
from lib.training.micro_batching import Appetite
from lib.training.network import Network
from lib.training.state import Point, Progress, load_state, save_state
from lib.training.stream import Batch, SampleStream
from lib.training.validation import autocast, peak_memory_mib, validate

logger = logging.getLogger(__name__)


CLOCKS = {"wall": time.monotonic, "cpu": time.process_time}
"""How time of training is taken, in seconds: as it passes, or as this process used it on all of its threads."""


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast.

    Attributes:
        minutes: Of training, those of earlier runs that are gone on with included; None for no limit.
        steps: The same in steps. With this limit alone, and one kind of machine, a run can be repeated exactly.
        peak_lr: Learning rate after warming up, from which a cosine falls.
        warm_up_steps: To reach it.
        weight_decay: AdamW's.
        gradient_norm: Largest, as in the published recipe.
        ema_decay: Of the moving average of the weights.
        report_s: Seconds between two points of the curve.
        report_steps: Steps between two points, in place of seconds.
        told_s: Seconds between two lines of the log that say how far it is and how long it will take; None for none.
        patience: Points without a better Dice of the last answer, after which training ends with the best average;
            None to train to the end and take the last.
        seed: Of the dialogues.
        workers: Processes that draw samples, for each that trains.
        precision: One of `lib.models.precision.PRECISIONS`.
        interaction: How dialogues are played.
        clock: One of `CLOCKS`, by which minutes and seconds count. With "cpu" it does not matter what else the machine
            does; samples must be drawn by the process itself, for those that others draw would be free.
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
    told_s: float | None = None
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
        """Share of the training that is behind."""
        by_time = progress.spent_s / (self.minutes * 60) if self.minutes is not None else 0.0
        by_step = progress.step / self.steps if self.steps is not None else 0.0
        return min(1.0, max(by_time, by_step))


def train(
    model: Network,
    stream: SampleStream,
    validation: Sequence[Batch],
    config: TrainingConfig,
    out: Path,
    on_report: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train what requires gradients; in the end the model holds the average of the weights.

    Of several processes (torch.distributed) each draws its own samples; gradients are averaged, and the first keeps
    average, curve and state: ``OUT/<size>_curve.json``, ``OUT/<size>_state.pt``. A run that was stopped goes on there,
    with the samples that it would have drawn.

    Args:
        model: Changed in place, on whatever device it is.
        stream: Endless samples; its first step is set.
        validation: Fixed batches, on the first process.
        config: How.
        out: Existing folder.
        on_report: Told at each point of the curve, on the first process.

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
    if state_path.exists():
        progress, values, averaged, moments = load_state(state_path)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(values[name])
        average.load(averaged)
        optimizer.load_state_dict(moments)
        logger.info("Going on at step %d after %.1f min.", progress.step, progress.spent_s / 60)
    learner = _Learner(model, config, device)
    appetite = Appetite(model, stream.batch)
    stream.first_step = progress.step
    workers = config.workers
    batches = iter(DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None))
    losses: list[float] = []
    clock = CLOCKS[config.clock]
    last, reported_s, told_s = clock(), progress.spent_s, progress.spent_s
    model.train()
    while config.done(progress) < 1 and not _is_stale(progress, config):
        batch = Batch(*(part.to(device) for part in next(batches)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, progress.step, config.done(progress))
        optimizer.zero_grad()
        losses.append(appetite.digest(batch, learner.of_step(progress.step)))
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, config.gradient_norm)
        optimizer.step()
        progress.step += 1
        average.update(progress.step)
        now = clock()
        progress.spent_s, last = agreed(progress.spent_s + now - last), now
        if config.told_s is not None and progress.spent_s - told_s >= config.told_s:
            told_s = progress.spent_s
            logger.info("%s, loss=%.3g", _how_far(progress, config), np.mean(losses))
        if not _is_due(progress, reported_s, config):
            continue
        reported_s = progress.spent_s
        if rank() == 0:
            point: Point = {"step": progress.step, "minutes": progress.spent_s / 60, "loss": float(np.mean(losses))}
            point["memory_mib"] = peak_memory_mib(device)
            with average.applied():
                model.eval()
                point |= validate(model, validation, config.interaction, config.precision)
            model.train()
            progress.curve.append(point)
            _keep_best(progress, average, config)
            logger.info(" ".join(f"{name}={value:.4g}" for name, value in point.items()))
            save_state(state_path, progress, trained, average.tensors, optimizer.state_dict())
            curve_path.write_text(json.dumps(progress.curve, indent=1))
            if on_report is not None:
                on_report(progress)
        share_curve(progress)
        losses.clear()
        last = clock()
    if progress.best is not None:
        average.load(progress.best[1])
    average.give()
    model.eval()
    return progress


class _Learner:
    """Gradients of a dialogue."""

    def __init__(self, model: Network, config: TrainingConfig, device: torch.device) -> None:
        self._model, self._config, self._device = model, config, device
        self._mask_loss = DiceCELoss(sigmoid=True)

    def of_step(self, step: int) -> Callable[[Batch, float], float]:
        """The part of some samples in the step's gradients; the step decides what kind of dialogue all of them have."""
        interaction = self._config.interaction
        # Of all processes the same, so that none waits for another's longer dialogue.
        rng = np.random.default_rng([self._config.seed, step])
        rounds = 1 + int(rng.choice(len(interaction.rounds), p=interaction.rounds))
        with_box = bool(rng.random() < interaction.box_share)

        def learn(batch: Batch, share: float) -> float:
            with autocast(self._device, self._config.precision):
                answers = play(self._model, batch, rounds, interaction, with_box=with_box, seed=self._config.seed)
            loss = share * dialogue_loss(answers, batch.truths, self._mask_loss, interaction)
            loss.backward()
            return float(loss.detach())

        return learn


def learning_rate(config: TrainingConfig, step: int, done: float) -> float:
    """Warm up over the first steps, then a cosine over what was granted.

    Args:
        config: Peak and warming up.
        step: Steps done.
        done: Share of the training that is behind.
    """
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1)))
    return config.peak_lr * min(1.0, (step + 1) / config.warm_up_steps) * (0.01 + 0.99 * cosine)


def _how_far(progress: Progress, config: TrainingConfig) -> str:
    """In words, for the log."""
    minutes, done = progress.spent_s / 60, config.done(progress)
    return f"step {progress.step}, {minutes:.1f} min, about {minutes * (1 - done) / done:.1f} min left"


def _is_due(progress: Progress, reported_s: float, config: TrainingConfig) -> bool:
    """Whether it is time for a point of the curve; the last step always has one."""
    if config.done(progress) >= 1:
        return True
    if config.report_steps is not None:
        return progress.step % config.report_steps == 0
    return progress.spent_s - reported_s >= config.report_s


def _value(point: Point) -> float:
    """What the best point is the best of: Dice of the last answer, or less loss where nothing is validated."""
    return next((value for name, value in point.items() if name.startswith("dice_")), -point["loss"])


def _keep_best(progress: Progress, average: MovingAverage, config: TrainingConfig) -> None:
    if config.patience is None:
        return
    value = _value(progress.curve[-1])
    if progress.best is None or value > progress.best[0]:
        progress.best = value, {name: tensor.clone() for name, tensor in average.tensors.items()}


def _is_stale(progress: Progress, config: TrainingConfig) -> bool:
    """Whether the best point lies too many points back."""
    if config.patience is None or not progress.curve:
        return False
    values = [_value(point) for point in progress.curve]
    return len(values) - 1 - int(np.argmax(values)) >= config.patience
