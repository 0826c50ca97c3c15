"""Weights as a training leaves them: of the base that is there, with other values in what is trained."""

from pathlib import Path

import torch

from lib.models.build import build_model
from lib.models.checkpoint import load_base, save_trained
from lib.models.trainable import trained_names


def write_trained(base: Path, path: Path, *, seed: int, size: str = "test") -> Path:
    """A weights file for a base; other seeds, other weights."""
    generator = torch.Generator().manual_seed(seed)
    model = build_model(size)
    load_base(model, base)
    with torch.no_grad():
        for name in sorted(trained_names(model)):
            parameter = model.get_parameter(name)
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    save_trained(model, path, provenance={"source": f"random, seed {seed}, for tests"})
    return path
