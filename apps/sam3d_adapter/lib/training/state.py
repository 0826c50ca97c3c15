"""What a stopped training needs to go on as if it had not been stopped."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Point = dict[str, float]


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: Steps done.
        spent_s: Seconds of training, those of earlier runs included.
        curve: A point for each report: step, minutes, loss, Dice and the like.
        best: Value and values of the trained parameters of the best report, where the best is asked for.
    """

    step: int = 0
    spent_s: float = 0.0
    curve: list[Point] = field(default_factory=list)
    best: tuple[float, dict[str, Tensor]] | None = None


def save_state(
    path: Path,
    progress: Progress,
    trained: Mapping[str, Tensor],
    average: Mapping[str, Tensor],
    optimizer: Mapping[str, Any],
) -> None:
    """Write the state; whenever the process is killed, the file is the one before or the new one.

    Args:
        path: Target.
        progress: How far.
        trained: Values of the trained parameters.
        average: Their moving average.
        optimizer: Its ``state_dict``.
    """
    best = None if progress.best is None else {"value": progress.best[0], "tensors": progress.best[1]}
    state = {
        "trained": dict(trained),
        "average": dict(average),
        "optimizer": dict(optimizer),
        "step": progress.step,
        "spent_s": progress.spent_s,
        "curve": progress.curve,
        "best": best,
    }
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_state(path: Path) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """What `save_state` wrote: progress, trained values, average, optimizer."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    best = None if state["best"] is None else (state["best"]["value"], state["best"]["tensors"])
    progress = Progress(state["step"], state["spent_s"], state["curve"], best)
    return progress, state["trained"], state["average"], state["optimizer"]
