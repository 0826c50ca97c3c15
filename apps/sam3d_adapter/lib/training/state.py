"""What a training keeps besides the model: progress, curve and moving average; saved, so that it can be resumed."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.files.atomic_write import replacing
from lib.training.network import Trainable

Point = dict[str, float]
"""One report of a training: step, minutes, loss, Dice and the like."""


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: Steps done.
        spent_s: Seconds of training, including earlier runs.
        curve: One point for each report.
        best: Score and averaged weights of the best report, where the best is asked for.
    """

    step: int = 0
    spent_s: float = 0.0
    curve: list[Point] = field(default_factory=list)
    best: tuple[float, dict[str, Tensor]] | None = None


class MovingAverage:
    """Moving average of the trained weights, the result of a training; frozen weights have no second copy.

    Args:
        model: Its parameters that require gradients are averaged.
        decay: Share of the average that stays at each step, after the first steps.
    """

    def __init__(self, model: Trainable, decay: float) -> None:
        self._decay = decay
        self._live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.tensors = {name: p.detach().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Adds the present weights.

        Args:
            step: Steps done; early steps count more, because the weights before them are worse.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), list(self._live.values()), 1 - decay)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores saved values."""
        for name, held in self.tensors.items():
            held.copy_(tensors[name])

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Gives the model the averaged weights."""
        for name, parameter in self._live.items():
            parameter.copy_(self.tensors[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights within the ``with`` block."""
        with torch.no_grad():
            before = {name: p.detach().clone() for name, p in self._live.items()}
            self.copy_to_model()
            try:
                yield
            finally:
                for name, parameter in self._live.items():
                    parameter.copy_(before[name])


def save_state(
    path: Path,
    progress: Progress,
    trained: Mapping[str, Tensor],
    average: Mapping[str, Tensor],
    optimizer: Mapping[str, Any],
) -> None:
    """Writes the state atomically.

    Args:
        path: Target.
        progress: Of the training.
        trained: The trained parameters.
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
    with replacing(path) as partial, partial.open("wb") as file:
        torch.save(state, file)


def load_state(path: Path) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Reads what `save_state` wrote: progress, trained parameters, moving average, optimizer."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    best = None if state["best"] is None else (state["best"]["value"], state["best"]["tensors"])
    progress = Progress(state["step"], state["spent_s"], state["curve"], best)
    return progress, state["trained"], state["average"], state["optimizer"]
