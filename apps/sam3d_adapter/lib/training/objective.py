"""What a training makes better: a loss of samples, and scores of samples that are held out."""

from collections.abc import Mapping, Sequence
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from lib.training.state import Point


class Samples(Protocol):
    """Samples to train on at once: a named tuple of tensors, whose first axis counts the samples.

    Attributes:
        numbers: (B,), each sample's own.
    """

    @property
    def numbers(self) -> Tensor: ...

    def rows(self, where: slice) -> Self:
        """Some of the samples."""

    def to(self, device: torch.device) -> Self:
        """The samples on a device."""


Given = TypeVar("Given", bound=Samples, contravariant=True)


class Objective(Protocol[Given]):
    """Loss and scores of a network; a training knows its samples by this alone."""

    def loss(self, samples: Given, step: int) -> Tensor:
        """The mean loss of some samples: a function of weights, samples and step, the same in all processes.

        Args:
            samples: On the device of the network.
            step: Of the training.
        """

    def scores(self, data_sets: Mapping[str, Sequence[Given]]) -> Point:
        """Scores on held-out samples; the first that is named ``dice_...`` says which weights are best.

        Args:
            data_sets: Samples by the name of their data.
        """
