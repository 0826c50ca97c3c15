"""What of SAM 2 is trained, and the losses beside that of the masks."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from lib.families.sam2 import boundary, position
from lib.families.sam2.propagation import SliceFeatures

LOSSES = ("position", "boundary")
"""Names of the losses beside that of the masks."""
TAP = "image_encoder.neck"
"""The part that both losses share with the masks: the feature pyramid behind the frozen encoder. Memory attention,
memory encoder and decoder read nothing of a slice but what it gives, so no loss that reaches it leaves masks alone."""
TRAINED = ("memory_attention", "sam_mask_decoder", TAP)
"""Parts of `SAM2Base`; all others are frozen."""


@dataclass(frozen=True)
class Named:
    """What the files of a training are called after.

    Attributes:
        size: of the network.
    """

    size: str


class TrainedNetwork(nn.Module):
    """A `SAM2Base` with the losses of its slices.

    The network stays in eval mode: what is trained is then what is served, drop-out does not make a resumed training
    another one, and object scores are among its answers.

    Args:
        model: whose parts are trained.
        size: of it.
        losses: some of `LOSSES`.
        seed: of the first values of their parameters.
        is_whole: whether all of the model is trained, not the parts of `TRAINED` alone.

    Attributes:
        gradient_checkpointing: whether activations of slices are computed twice, to save memory.
    """

    def __init__(
        self, model: SAM2Base, size: str, losses: Collection[str] = (), seed: int = 0, *, is_whole: bool = False
    ) -> None:
        super().__init__()
        self.model, self.config, self.gradient_checkpointing = model, Named(size), False
        model.requires_grad_(is_whole)
        for part in TRAINED:
            model.get_submodule(part).requires_grad_()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.position = position.RelativePosition(model.hidden_dim) if "position" in losses else None
            self.boundary = boundary.BoundaryDetection(model.hidden_dim) if "boundary" in losses else None

    def train(self, mode: bool = True) -> "TrainedNetwork":
        """As `torch.nn.Module.train`, but for the model."""
        super().train(mode)
        self.model.eval()
        return self

    def encode(self, images: Tensor) -> tuple[list[SliceFeatures], list[Tensor]]:
        """The features of slices, one by one, and what the tap gave for all of them, finest level first.

        Args:
            images: (D, 3, P, P).
        """
        seen = self.model.image_encoder(images)
        tap = list(seen["backbone_fpn"])
        decoder = self.model.sam_mask_decoder
        # As `SAM2Base.forward_image`, which does not give the tap.
        seen["backbone_fpn"][:2] = [decoder.conv_s0(tap[0]), decoder.conv_s1(tap[1])]
        _, features, positions, sizes = self.model._prepare_backbone_features(seen)

        def of(number: int) -> SliceFeatures:
            own = slice(number, number + 1)
            return SliceFeatures([level[:, own] for level in features], [level[:, own] for level in positions], sizes)

        return [of(number) for number in range(len(images))], tap
