"""The one place that knows how the parts fit together."""

import torch

from lib.models.config import MODEL_SIZES, ConfigError, ModelConfig
from lib.models.image_encoder import ImageEncoder3d
from lib.models.mask_decoder import MaskDecoder3d
from lib.models.prompt_encoder import PromptEncoder3d
from lib.models.sam3d import Sam3dAdapter


def build_model(size: str | ModelConfig) -> Sam3dAdapter:
    """A model with fresh weights.

    Args:
        size: Name of a size, or the numbers of an own one.

    Raises:
        ConfigError: The name is unknown.
    """
    if isinstance(size, str):
        if size not in MODEL_SIZES:
            raise ConfigError(f"Unknown model size '{size}'. Known sizes: {', '.join(MODEL_SIZES)}.")
        size = MODEL_SIZES[size]
    c = size
    model = Sam3dAdapter(
        config=c,
        image_encoder=ImageEncoder3d(
            dim=c.embed_dim,
            depth=c.depth,
            num_heads=c.num_heads,
            mlp_ratio=c.mlp_ratio,
            window=c.window,
            rel_pos_sides=tuple(c.pos_embed_side if i in c.global_blocks else c.rel_pos_window for i in range(c.depth)),
            levels=c.levels,
            neck_dim=c.neck_dim,
            patch_size=c.patch_size,
            upsample=c.upsample,
            pos_embed_side=c.pos_embed_side,
            max_tokens=c.max_tokens,
        ),
        prompt_encoder=PromptEncoder3d(
            dim=c.neck_dim,
            depth=c.prompt_depth,
            num_heads=c.prompt_heads,
            mlp_dim=c.prompt_mlp_dim,
            num_queries=c.num_queries,
        ),
        mask_decoder=MaskDecoder3d(
            levels=c.levels,
            neck_dim=c.neck_dim,
            head_dim=c.head_dim,
            num_classes=c.num_classes,
            decode_stride=c.decode_stride,
            detail_dims=c.detail_dims,
            refine_dims=c.refine_dims,
            click_map_sigmas=c.click_map_sigmas,
            click_map_scales=c.click_map_scales,
            click_map_tolerances=c.click_map_tolerances,
            correction_sigmas=c.correction_sigmas,
        ),
    )
    return model.eval()


def build_empty(size: str | ModelConfig) -> Sam3dAdapter:
    """The same on the meta device: shapes and names without memory, for checks and for loading into."""
    with torch.device("meta"):
        return build_model(size)
