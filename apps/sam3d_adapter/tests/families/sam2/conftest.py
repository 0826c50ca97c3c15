"""A network of SAM 2's kind that is small enough for the fast tests, with random weights."""

from collections.abc import Iterator

import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base

from lib.families.sam2 import FAMILY, sizes
from lib.families.sam2.network import build_network

PUBLISHED = (sizes.Published("sam2_nano.pt", "https://example.org/sam2_nano.pt"),)


@pytest.fixture(scope="session")
def size() -> Iterator[str]:
    """Name of a size whose slices have 64 pixels a side."""
    with pytest.MonkeyPatch.context() as patch:
        micro = sizes.SIZES["micro"]
        changes = {**micro.changes, **sizes.square(64)}
        patch.setitem(sizes.SIZES, "nano", sizes.Size(micro.config, changes, PUBLISHED, micro.peak_lr))
        patch.setattr(FAMILY, "sizes", (*FAMILY.sizes, "nano"))
        yield "nano"


@pytest.fixture(scope="session")
def model(size: str) -> SAM2Base:
    """In eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build_network(size).eval().requires_grad_(False)
    # So that the object is in every slice: otherwise all logits are one number.
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(30.0)
    return network
