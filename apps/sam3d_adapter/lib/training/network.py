"""The interfaces that training needs from a network; the networks of every family have the first."""

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor, nn

from lib.models.prompts import RoiPrompts


class Sized(Protocol):
    """Configuration of a network.

    Attributes:
        size: Its name.
    """

    @property
    def size(self) -> str:
        """Part of the names of the files that training writes."""


class Trainable(Protocol):
    """A `torch.nn.Module` that training can change.

    Attributes:
        config: Its configuration.
    """

    @property
    def config(self) -> Sized:
        """What it was built from."""

    def modules(self) -> Iterator[nn.Module]:
        """As `torch.nn.Module.modules`. One with ``gradient_checkpointing`` can compute activations twice."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As `torch.nn.Module.parameters`."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As `torch.nn.Module.named_parameters`."""

    def train(self) -> Any:
        """As `torch.nn.Module.train`."""

    def eval(self) -> Any:
        """As `torch.nn.Module.eval`."""

    def zero_grad(self) -> None:
        """As `torch.nn.Module.zero_grad`."""


class Network(Trainable, Protocol):
    """One that encodes a region once and answers prompts about it."""

    def encode(self, roi: Tensor) -> Any:
        """The embedding of (B, 1, D, H, W) normalised intensities, zero outside the image."""

    def decode(self, embedding: Any, prompts: RoiPrompts) -> Tensor:
        """(B, 2, D, H, W): background and foreground logits, before softmax."""
