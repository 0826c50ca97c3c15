"""The networks that are compared on equal terms, and how each of them is trained."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.families.click_unet import ClickUnetFamily
from lib.families.click_unet.config import CLICK_UNET_SIZES
from lib.families.click_unet.network import ClickUnet, save_click_unet
from lib.families.sam3d_adapter import Sam3dFamily
from lib.models.adapter import SpatialAdapter
from lib.models.checkpoint import save_base, save_trained
from lib.models.image_encoder import Block3d
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import interaction_names
from lib.pretraining.pretrain import build_from_scratch
from lib.training.interaction import InteractionConfig
from lib.training.stream import Batch, SampleStream

Trained = Sam3dAdapter | ClickUnet

PUBLISHED_ON, PUBLISHED_ANYWHERE = 10, 20
"""Clicks of a sample in the published training: voxels of the object, and voxels of the whole region."""


class InertAdapter(SpatialAdapter):
    """An adapter that hands its tokens on.

    Its output projection is zero and nothing of it is trained, so that a plain adapter of these values, as the server
    builds it, gives the same to the bit; in training what comes to nothing is not worked out, and costs no time.
    """

    def __init__(self, *, dim: int, mid_dim: int) -> None:
        super().__init__(dim=dim, mid_dim=mid_dim)
        self.requires_grad_(False)
        self.linear2.weight.zero_()
        self.linear2.bias.zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens themselves."""
        return tokens


class UnsignedClicks(SampleStream):
    """The samples of a `SampleStream`, clicked on as in the published training: some on the object, more anywhere.

    No click has a sign, so that all of them count as being on the object.
    """

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            yield batch._replace(clicks_dhw=unsigned_clicks(batch, self.seed))


def unsigned_clicks(batch: Batch, seed: int) -> Tensor:
    """(B, 30, 3) voxels: 10 of the object, the first click where none of it is to be seen, then 20 of the region.

    Args:
        batch: Whose truths and numbers.
        seed: Of the draws, with each row's number.
    """
    rows = []
    for truth, first, number in zip(batch.truths[:, 0], batch.clicks_dhw[:, :1], batch.numbers, strict=True):
        rng = np.random.default_rng([seed, int(number), 2])
        where = truth.nonzero().float() if truth.any() else first
        on = where[torch.from_numpy(rng.integers(len(where), size=PUBLISHED_ON))]
        anywhere = torch.from_numpy(rng.integers(truth.shape, size=(PUBLISHED_ANYWHERE, 3))).float()
        rows.append(torch.cat([on, anywhere]))
    return torch.stack(rows)


def _published(size: str, seed: int) -> Sam3dAdapter:
    """What reads signs, previous answers and boxes stays at zero, so that the server gives it none of them."""
    model = build_from_scratch(size, seed)
    for name in interaction_names(model):
        model.get_parameter(name).requires_grad_(False).zero_()
    return model


def _without_adapters(size: str, seed: int) -> Sam3dAdapter:
    model = build_from_scratch(size, seed)
    for block in model.image_encoder.blocks:
        assert isinstance(block, Block3d)
        linear = block.adapter.linear1
        block.adapter = InertAdapter(dim=linear.in_features, mid_dim=linear.out_features)
    return model


def _click_unet(size: str, seed: int) -> ClickUnet:
    torch.manual_seed(seed)
    return ClickUnet(CLICK_UNET_SIZES[size])


@dataclass(frozen=True)
class Peer:
    """A network and its training.

    Attributes:
        name: Of its folder.
        title: In the table.
        family: In presets.
        size: Of the family; "test" stands in for it in a trial.
        build: A fresh network of a size, by a seed.
        stream: Where its samples come from.
        interaction: How interactions are played.
    """

    name: str
    title: str
    family: str
    size: str
    build: Callable[[str, int], Trained]
    stream: type[SampleStream] = SampleStream
    interaction: InteractionConfig = field(default_factory=InteractionConfig)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("ours", "sam3d_adapter (tiny)", Sam3dFamily.name, "tiny", build_from_scratch),
        Peer("click_unet", "click U-Net", ClickUnetFamily.name, "small", _click_unet),
        Peer(
            "published",
            "published recipe",
            Sam3dFamily.name,
            "tiny_published",
            _published,
            UnsignedClicks,
            InteractionConfig(rounds=(1.0,), box_share=0.0, click_weight=0.0),
        ),
        Peer("no_adapters", "ViT without adapters", Sam3dFamily.name, "tiny_published", _without_adapters),
    )
}
"""By name; the first is the one that the others are compared with."""


def save(model: Trained, folder: Path, provenance: Mapping[str, object]) -> None:
    """Write the files of `files`."""
    if isinstance(model, ClickUnet):
        save_click_unet(model, folder / "weights.safetensors", provenance=provenance)
        return
    save_base(model, folder / "base.safetensors")
    save_trained(model, folder / "weights.safetensors", provenance=provenance)
