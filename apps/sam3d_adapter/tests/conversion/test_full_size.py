"""A checkpoint of the published size, with its own keys and shapes and values by formula, through the command."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.cli.convert import convert, run
from lib.conversion.sam_files import SamFile
from lib.files.checksums import file_sha256
from lib.models.checkpoint import load_model
from lib.models.trainable import interaction_names, trained_names
from tests.support.conversion_site import QUICK
from tests.support.deterministic import formula_checkpoint, formula_tensor

SHARED = os.environ.get("SAM3D_SHARED")
APP = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not SHARED, reason="SAM3D_SHARED names no folder with parity/reference_checkpoint_keys.json"),
]


def published_state() -> dict:
    """As the authors' training saves it. Its scale of relative positions stays 1, since training leaves it alone."""
    keys = json.loads((Path(SHARED) / "parity/reference_checkpoint_keys.json").read_text())
    state = formula_checkpoint(keys)
    encoder = state["encoder_dict"]
    for name, shape in keys["encoder_dict"].items():
        if name.endswith("attn_mask"):
            encoder[name] = torch.zeros(tuple(shape))
        elif name.endswith("attn.lr"):
            encoder[name] = torch.ones(())
    optimiser = {"state": {}, "param_groups": [{"lr": 4e-4, "params": []}]}
    opts = {f"{part}_opt": optimiser for part in ("encoder", "feature", "decoder")}
    return state | opts | {"epoch": 500, "best_val_loss": np.float64(0.125)}


def sam_state_of(encoder: dict) -> dict:
    """SAM's file from which such a checkpoint could have started."""
    new = ("adapter", "depth_embed", "slice_embed", "rel_pos_d", "attn.lr", "attn_mask", "neck_3d")
    state = {f"image_encoder.{n}": v for n, v in encoder.items() if not any(part in n for part in new)}
    state |= {n: v + 1 for n, v in state.items() if ".norm" in n}
    return state | {
        "image_encoder.neck.0.weight": torch.zeros(256, 768, 1, 1),
        "mask_decoder.iou_token.weight": torch.zeros(1, 256),
        "prompt_encoder.no_mask_embed.weight": torch.zeros(1, 256),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """For files of 2 GB in all, which pytest would keep for three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_published_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3D_CACHE", str(folder / "cache"))
    state = published_state()
    sam, checkpoint, out = folder / "sam_vit_b.pth", folder / "last.pth.tar", folder / "model"
    torch.save(state, checkpoint)
    torch.save(sam_state_of(state["encoder_dict"]), sam)
    del state
    file = SamFile(sam.name, file_sha256(sam), sam.stat().st_size)
    arguments = ["--preset", "kits", "--checkpoint", checkpoint, "--sam", sam, "--out", out, "--offline"]
    options = convert.make_context("convert", [str(a) for a in arguments]).params
    assert run(APP, **options, sam_files={"vit_b": file}, patience=QUICK) == 0

    base, weights = out / "sam_vit_b.safetensors", out / "kits.safetensors"
    model, report = load_model(size="vit_b", base=base, weights=weights)
    assert report.provenance["training"] == {"epoch": 500.0, "best_val_loss": 0.125}
    later = interaction_names(model)
    assert sum(model.get_parameter(name).numel() for name in trained_names(model) - later) == 25_462_400
    assert not any(model.get_parameter(name).any() for name in later)
    assert weights.stat().st_size < 4 * 25_462_400 + 200_000
    for part, name, ours in (
        ("encoder_dict", "pos_embed", "image_encoder.pos_embed"),
        ("encoder_dict", "blocks.2.attn.rel_pos_h", "image_encoder.blocks.2.attn.rel_pos_h"),
        ("encoder_dict", "blocks.7.attn.rel_pos_d", "image_encoder.blocks.7.attn.rel_pos_d"),
        ("encoder_dict", "blocks.11.norm1.weight", "image_encoder.blocks.11.norm1.weight"),
        ("encoder_dict", "blocks.11.mlp.lin2.weight", "image_encoder.blocks.11.mlp.lin2.weight"),
        ("encoder_dict", "neck_3d.3.2.weight", "image_encoder.neck_3d.3.2.weight"),
        ("feature_dict.3", "transformer.layers.1.norm4.bias", "prompt_encoder.transformer.layers.1.norm4.bias"),
        ("decoder_dict", "cls.0.weight", "mask_decoder.classifier.0.weight"),
    ):
        value = model.get_parameter(ours).detach()
        assert torch.equal(value, formula_tensor(part, name, tuple(value.shape))), ours
    kept = json.loads((out / "kits.conversion.json").read_text())
    keys = json.loads((Path(SHARED) / "parity/reference_checkpoint_keys.json").read_text())
    number = len(keys["encoder_dict"]) + len(keys["decoder_dict"]) + 4 * len(keys["feature_dict[0..3]"]) + 5
    assert len(kept["keys"][0]["loaded"]) + len(kept["keys"][0]["ignored"]) == number
