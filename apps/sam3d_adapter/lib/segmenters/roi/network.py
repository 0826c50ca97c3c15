"""What the engine asks of a network that sees one region of interest."""

from typing import Any, Protocol

from torch import Tensor

from lib.models.prompts import RoiPrompts


class Embedding(Protocol):
    """What a network works out of a region once, whatever is clicked; it is cached and must not be changed."""

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""


class RoiNetwork(Protocol):
    """A network that segments what prompts point at in a cube, in eval mode.

    It may also have a method ``feature_map``: (B, 1, D, H, W) as of `encode` to (B, C, D', H', W'), the deepest that
    its encoder sees. Where it has one, cases can be chosen by coverage.

    Attributes:
        takes_previous: whether `decode` reads `RoiPrompts.previous`. Then the clicks of a request are answered one
            after the other, each with the answer before it.
        takes_background: whether `decode` tells background clicks from foreground ones; otherwise it gets none.
        takes_box: whether `decode` reads `RoiPrompts.box_dhw`.
    """

    takes_previous: bool
    takes_background: bool
    takes_box: bool

    def encode(self, roi: Tensor) -> Any:
        """The embedding of (B, 1, D, H, W) normalised intensities, zero outside the image."""

    def decode(self, embedding: Any, prompts: RoiPrompts) -> Tensor:
        """(B, 2, D, H, W): background and foreground logits, before softmax."""

    def parameters(self) -> Any:
        """As `torch.nn.Module.parameters`."""
