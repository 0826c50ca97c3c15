"""Files as Segment Anything and the authors of 3DSAM-adapter publish them, of the test size and random."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.conversion.sam_files import SamFile
from lib.files.checksums import file_sha256
from lib.models.build import build_model
from lib.models.sam3d import Sam3dAdapter
from lib.models.sam_checkpoint import load_sam_checkpoint
from lib.models.trainable import frozen_names, interaction_names, trained_names


def sam_state(model: Sam3dAdapter, *, seed: int = 9) -> dict[str, Tensor]:
    """A file as SAM publishes it, random, of the model's size."""
    c = model.config
    generator = torch.Generator().manual_seed(seed)
    state = {n: p for n, p in model.named_parameters() if n in frozen_names(model)}
    state |= {n: p for n, p in model.named_parameters() if ".norm1." in n or ".norm2." in n}
    state = {n: torch.randn(p.shape, generator=generator) for n, p in state.items() if n.startswith("image_encoder")}
    state = {n: v for n, v in state.items() if not n.endswith(("rel_pos_scale", "rel_pos_d"))}
    state |= {
        "image_encoder.neck.0.weight": torch.zeros(4, c.embed_dim, 1, 1),
        "mask_decoder.iou_token.weight": torch.zeros(1),
    }
    return state | {"prompt_encoder.no_mask_embed.weight": torch.zeros(1, 4)}


def write_sam_file(path: Path, *, seed: int = 9) -> SamFile:
    """SAM's file of the test size, and what its publisher would say of it."""
    torch.save(sam_state(build_model("test"), seed=seed), path)
    return SamFile(path.name, file_sha256(path), path.stat().st_size)


def trained_model(sam: Path) -> Sam3dAdapter:
    """A model that started from a SAM file, with other values in all that trains."""
    model = build_model("test")
    load_sam_checkpoint(model, sam)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name in sorted(trained_names(model) - interaction_names(model)):
            parameter = model.get_parameter(name)
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def reference_state(model: Sam3dAdapter) -> dict[str, Any]:
    """What the authors' training saves of a model: its weights under their names, and the state of the training."""

    def part(prefix: str) -> dict[str, Tensor]:
        later = interaction_names(model)
        named = {
            n.removeprefix(prefix): p.detach().clone()
            for n, p in model.named_parameters()
            if n.startswith(prefix) and n not in later
        }
        return {n.replace("rel_pos_scale", "lr").replace("classifier.", "cls."): p for n, p in named.items()}

    encoder = part("image_encoder.")
    encoder |= {f"blocks.{i}.attn_mask": torch.zeros(2, 8, 8) for i in range(0, model.config.depth, 2)}
    prompts = part("prompt_encoder.") | {"positional_encoding_gaussian_matrix": torch.randn(3, 8)}
    unused = {name: torch.full_like(value, 7.0) for name, value in prompts.items()}
    return {
        "epoch": 12,
        "best_val_loss": np.float64(0.25),
        "encoder_dict": encoder,
        "decoder_dict": part("mask_decoder."),
        "feature_dict": [*[unused] * (model.config.levels - 1), prompts],
        "encoder_opt": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 4e-4, "params": [0]}]},
    }
