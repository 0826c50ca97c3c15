"""Segment Anything's own names and shapes, for each size that starts from its files; nothing is read or allocated."""

import pytest
import torch
from segment_anything import sam_model_registry

from lib.models.build import build_empty
from lib.models.trainable import frozen_names


@pytest.mark.parametrize("size, common", [("vit_b", 171), ("vit_l", 339), ("vit_h", 451)])
def test_the_image_encoder_is_that_of_sam(size, common):
    with torch.device("meta"):
        sam = {n: tuple(p.shape) for n, p in sam_model_registry[size]().state_dict().items()}
    model = build_empty(size)
    ours = {n: tuple(p.shape) for n, p in model.named_parameters()}
    both = sam.keys() & ours.keys()
    assert len(both) == common
    assert {n: sam[n] for n in both} == {n: ours[n] for n in both}
    # What SAM has beyond: its 2-D neck, and the two parts that 3-D ones replace.
    assert {n for n in sam.keys() - both if n.startswith("image_encoder.")} == {
        f"image_encoder.neck.{n}" for n in ("0.weight", "1.weight", "1.bias", "2.weight", "3.weight", "3.bias")
    }
    assert {n.split(".")[0] for n in sam.keys() - both} == {"image_encoder", "prompt_encoder", "mask_decoder"}
    # All that is frozen comes from SAM's file, but for the scale, which it lacks; with it the norms, which train.
    scales = {f"image_encoder.blocks.{i}.attn.rel_pos_scale" for i in range(model.config.depth)}
    norms = {n for n in ours if n.startswith("image_encoder.blocks.") and (".norm1." in n or ".norm2." in n)}
    assert both == (frozen_names(model) - scales) | norms
