"""What the predictor asks of a network, and the server of a family of networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from lib.models.loading import LoadReport
from lib.models.prompts import Prompts
from lib.segmenters.frozen_store import FrozenStore


class Embedding(Protocol):
    """What a network works out of an ROI once, whatever is clicked; it is cached and must not be changed."""

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""


class ClickModel(Protocol):
    """A network that segments what clicks point at, in eval mode.

    Attributes:
        feeds_back: Whether `decode` reads `Prompts.previous`. Then the clicks of a request are answered one after the
            other, each with the answer before it.
        uses_background: Whether `decode` tells background clicks from foreground ones; otherwise it gets none.
        uses_box: Whether `decode` reads `Prompts.box_dhw`.
    """

    feeds_back: bool
    uses_background: bool
    uses_box: bool

    def encode(self, roi: Tensor) -> Any:
        """The embedding of (B, 1, D, H, W) normalised intensities, zero outside the image."""

    def decode(self, embedding: Any, prompts: Prompts) -> Tensor:
        """(B, 2, D, H, W): background and foreground logits, before softmax."""

    def parameters(self) -> Any:
        """As `torch.nn.Module.parameters`."""


class Family(Protocol):
    """How networks of one kind are described in a preset and loaded.

    Attributes:
        name: In presets.
        sizes: Names of the sizes.
        files: Keys of the preset's `model` section that name files, the one that fine-tuning replaces last.
    """

    name: str
    sizes: tuple[str, ...]
    files: tuple[str, ...]

    def check_roi(self, size: str, roi_size: int) -> None:
        """Raise ConfigError where the size cannot take an ROI of so many voxels a side."""

    def load(
        self, size: str, files: Mapping[str, Path], device: str, frozen: FrozenStore
    ) -> tuple[ClickModel, LoadReport]:
        """A model on a device, in eval mode, no parameter requiring a gradient.

        Raises:
            CheckpointError: A file is absent or does not verify; says which and why.
        """
