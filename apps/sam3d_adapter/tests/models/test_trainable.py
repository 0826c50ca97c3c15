"""The trained set, spelled out."""

from lib.models.build import build_empty
from lib.models.trainable import frozen_names, interaction_names, mark_trainable, trained_names

BLOCK = {
    "norm1.weight",
    "norm1.bias",
    "attn.rel_pos_d",
    "norm2.weight",
    "norm2.bias",
    "adapter.linear1.weight",
    "adapter.linear1.bias",
    "adapter.conv.weight",
    "adapter.conv.bias",
    "adapter.linear2.weight",
    "adapter.linear2.bias",
}
NECK = {"0.weight", "1.weight", "1.bias", "2.weight", "3.weight", "3.bias"}
ATTENTION = {f"{p}_proj.{v}" for p in ("q", "k", "v", "out") for v in ("weight", "bias")}
PROMPT_LAYER = (
    {"global_query", "mlp.lin1.weight", "mlp.lin1.bias", "mlp.lin2.weight", "mlp.lin2.bias"}
    | {f"norm{i}.{v}" for i in range(1, 5) for v in ("weight", "bias")}
    | {f"{a}.{n}" for a in ("self_attn", "cross_attn_image_to_token", "cross_attn_token_to_image") for n in ATTENTION}
)
EXPECTED_TRAINABLE = (
    {"image_encoder.depth_embed", "image_encoder.slice_embed.weight", "image_encoder.slice_embed.bias"}
    | {f"image_encoder.blocks.{i}.{n}" for i in range(12) for n in BLOCK}
    | {f"image_encoder.neck_3d.{i}.{n}" for i in range(4) for n in NECK}
    | {f"prompt_encoder.transformer.layers.{i}.{n}" for i in range(2) for n in PROMPT_LAYER}
    | {f"mask_decoder.mlahead.head{i}.{j}.weight" for i in range(2, 6) for j in (0, 3)}
    | {"mask_decoder.classifier.0.weight", "mask_decoder.classifier.3.weight"}
)
# What the published model lacks and ours adds, starting at zero.
EXPECTED_INTERACTION = {"prompt_encoder.background_embed", "mask_decoder.corrections.conv.weight"}
EXPECTED_FROZEN = (
    {"image_encoder.pos_embed", "image_encoder.patch_embed.proj.weight", "image_encoder.patch_embed.proj.bias"}
    | {f"image_encoder.blocks.{i}.attn.{n}" for i in range(12) for n in ("rel_pos_h", "rel_pos_w", "rel_pos_scale")}
    | {
        f"image_encoder.blocks.{i}.{layer}.{v}"
        for i in range(12)
        for layer in ("attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")
        for v in ("weight", "bias")
    }
)


def test_vit_b_trains_exactly_the_published_parameters():
    model = build_empty("vit_b")
    assert interaction_names(model) == EXPECTED_INTERACTION
    assert trained_names(model) - EXPECTED_INTERACTION == EXPECTED_TRAINABLE
    assert frozen_names(model) == EXPECTED_FROZEN
    assert sum(model.get_parameter(name).numel() for name in EXPECTED_TRAINABLE) == 25_462_400
    assert sum(model.get_parameter(name).numel() for name in EXPECTED_INTERACTION) == 20_992
    assert mark_trainable(model) == 25_462_400 + 20_992
    assert {n for n, p in model.named_parameters() if p.requires_grad} == EXPECTED_TRAINABLE | EXPECTED_INTERACTION


def test_parts_have_the_published_sizes():
    model = build_empty("vit_b")
    trained = trained_names(model) - interaction_names(model)
    counts = {
        part: sum(p.numel() for n, p in model.named_parameters() if n in trained and n.startswith(part))
        for part in ("image_encoder", "prompt_encoder", "mask_decoder")
    }
    assert counts == {"image_encoder": 15_209_984, "prompt_encoder": 3_164_160, "mask_decoder": 7_088_256}
    assert sum(p.numel() for p in model.parameters()) == 114_309_004 + 20_992


def test_tiny_trains_its_detail_branch_too():
    assert any(n.startswith("mask_decoder.detail") for n in trained_names(build_empty("tiny")))
