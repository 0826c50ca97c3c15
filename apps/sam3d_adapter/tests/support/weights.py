"""Small random weights written through the checkpoint interface, for tests that need a model that loads."""

from pathlib import Path

import torch

from lib.families.click_unet.config import CLICK_UNET_SIZES
from lib.families.click_unet.network import ClickUnet, save_click_unet
from lib.models.build import build_model
from lib.models.checkpoint import save_base, save_trained


def write_test_weights(folder: Path, *, seed: int = 0) -> tuple[Path, Path]:
    """A base and a weights file of size "test" in ``folder``; equal seeds give equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model("test")
    base, weights = folder / "test_base.safetensors", folder / "test_weights.safetensors"
    save_base(model, base)
    save_trained(model, weights, provenance={"source": f"random, seed {seed}, for tests"})
    return base, weights


def write_click_unet(folder: Path, *, seed: int = 0) -> Path:
    """A weights file of the click-conditioned U-Net of size "test"; equal seeds give equal values."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ClickUnet(CLICK_UNET_SIZES["test"])
    path = folder / "click_unet_test.safetensors"
    save_click_unet(model, path, provenance={"source": f"random, seed {seed}, for tests"})
    return path
