"""The moving average of the weights, which is what training gives."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from lib.training.network import Network


class MovingAverage:
    """Average of what a model trains; of what it keeps frozen there is no second copy.

    Args:
        model: Its parameters that require gradients are averaged.
        decay: Share of the average that stays at each step, once it has run for a while.
    """

    def __init__(self, model: Network, decay: float) -> None:
        self._decay = decay
        self._live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.tensors = {name: p.detach().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the model's present values.

        Args:
            step: Number of steps trained; the first few count more, for the values before them are no good.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), list(self._live.values()), 1 - decay)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from values of before."""
        for name, held in self.tensors.items():
            held.copy_(tensors[name])

    @torch.no_grad()
    def give(self) -> None:
        """Give the model the averaged values for good."""
        for name, parameter in self._live.items():
            parameter.copy_(self.tensors[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged values within the ``with`` block."""
        with torch.no_grad():
            before = {name: p.detach().clone() for name, p in self._live.items()}
            self.give()
            try:
                yield
            finally:
                for name, parameter in self._live.items():
                    parameter.copy_(before[name])
