"""Every number of the network, for each size, in one place; what follows from another number is derived."""

import dataclasses
from dataclasses import dataclass


class ConfigError(ValueError):
    """A model configuration that cannot be built, with the values that disagree."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Numbers of one model size.

    The published 3DSAM-adapter (arXiv 2306.13465) upsamples the ROI four times and lets SAM's 16 x 16 patches read it,
    so one token stands for 4 voxels; token grid, window count and decoder grid follow from the fields here.
    """

    size: str
    """Name under which the size is known, also in checkpoints."""
    embed_dim: int
    """Channels of a token."""
    depth: int
    """Transformer blocks; a multiple of `levels`."""
    num_heads: int
    """Attention heads of a block."""
    global_blocks: tuple[int, ...] = ()
    """Blocks whose SAM weights carry relative positions of the whole image instead of one window."""
    mlp_ratio: int = 4
    """Hidden width of a block's MLP over `embed_dim`."""
    roi_size: int = 128
    """Side of the largest ROI in voxels, for which the position tables are laid out; smaller ones read their middle."""
    upsample: int = 4
    """Voxels become this many upsampled ones along each axis before the patch embedding."""
    patch_size: int = 16
    """Side of a patch, and taps of the slice embedding, in upsampled voxels."""
    pos_embed_side: int = 64
    """Side of SAM's learned absolute position table (1024 / 16 in the published ViTs)."""
    window: int = 8
    """Side of a cubic attention window in tokens; shifted by half of it on even-numbered blocks."""
    rel_pos_window: int = 14
    """Side of the 2-D window for which SAM's relative positions were learned; resized linearly to `window`."""
    levels: int = 4
    """Feature maps handed to the decoder, one after each `depth / levels` blocks."""
    neck_dim: int = 256
    """Channels of a feature map."""
    prompt_depth: int = 2
    """Layers of the prompt encoder."""
    prompt_heads: int = 8
    """Attention heads of the prompt encoder."""
    prompt_mlp_dim: int = 2048
    """Hidden width of the prompt encoder's MLP."""
    num_queries: int = 10
    """Learned global queries of each prompt-encoder layer."""
    head_dim: int = 128
    """Channels of a decoder head and of the fused map."""
    decode_stride: int = 2
    """ROI voxels along one axis of a decoder voxel."""
    num_classes: int = 2
    """Logits: background, foreground."""
    detail_dims: tuple[int, ...] = ()
    """Channels of the convolutional detail branch, from decoder resolution downwards; none in the published model."""
    refine_dims: tuple[int, ...] = ()
    """Channels of the convolutions run per click on the fused map, the same way; none in the published model."""
    click_map_sigmas: tuple[float, ...] = ()
    """Widths, in ROI voxels, of the bumps that tell the decoder where the clicks are; none in the published model."""
    click_map_scales: tuple[int, ...] = ()
    """Decoder voxels over which it compares intensities with those clicked on; none in the published model."""
    click_map_tolerances: tuple[float, ...] = ()
    """Differences of normalised intensity that still count as alike; none in the published model."""
    correction_sigmas: tuple[float, ...] = (3.0, 10.0)
    """Widths, in ROI voxels, of the bumps at the clicks that correct an answer; see `Corrections`."""

    def __post_init__(self) -> None:
        if self.depth % self.levels:
            raise ConfigError(f"depth (={self.depth}) must be a multiple of levels (={self.levels}).")
        if self.embed_dim % self.num_heads:
            raise ConfigError(f"embed_dim (={self.embed_dim}) must be divisible by num_heads (={self.num_heads}).")
        if self.patch_size % self.upsample:
            raise ConfigError(f"patch_size (={self.patch_size}) must be divisible by upsample (={self.upsample}).")
        if self.window % 2:
            raise ConfigError(f"window (={self.window}) must be even: alternate blocks shift by half of it.")
        if self.pos_embed_side % self.max_tokens:
            raise ConfigError(f"pos_embed_side (={self.pos_embed_side}) must be a multiple of {self.max_tokens}.")
        if self.refine_dims and self.refine_dims[0] != self.head_dim:
            raise ConfigError(f"refine_dims (={self.refine_dims}) must start with head_dim (={self.head_dim}).")
        self.tokens(self.roi_size)

    @property
    def stride(self) -> int:
        """ROI voxels along one axis of a token."""
        return self.patch_size // self.upsample

    @property
    def max_tokens(self) -> int:
        """Tokens along one axis of the largest ROI."""
        return self.roi_size // self.stride

    @property
    def blocks_per_level(self) -> int:
        """Transformer blocks before each feature map."""
        return self.depth // self.levels

    @property
    def max_fold(self) -> int:
        """ROI sides must be a multiple of this: whole tokens, whole windows."""
        return self.stride * self.window

    def tokens(self, roi_size: int) -> int:
        """Tokens along one axis of an ROI of `roi_size` voxels.

        Raises:
            ConfigError: The side is larger than the position tables or does not hold whole windows.
        """
        if roi_size % self.max_fold or not 0 < roi_size <= self.roi_size:
            raise ConfigError(
                f"An ROI side of {roi_size} voxels does not fit model size '{self.size}': expected a multiple of "
                f"{self.max_fold} (stride {self.stride} x window {self.window}) up to {self.roi_size}."
            )
        return roi_size // self.stride

    def to_dict(self) -> dict[str, object]:
        """Plain values, as stored in a checkpoint's metadata."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


# SAM's image encoders: segment_anything/build_sam.py (embed dim, depth, heads, global attention blocks).
_VIT_B = ModelConfig(size="vit_b", embed_dim=768, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11))
_VIT_L = ModelConfig(size="vit_l", embed_dim=1024, depth=24, num_heads=16, global_blocks=(5, 11, 17, 23))
_VIT_H = ModelConfig(size="vit_h", embed_dim=1280, depth=32, num_heads=16, global_blocks=(7, 15, 23, 31))

# Made for two CPU cores: 8-voxel tokens, a 16^3 grid, a detail branch for what they cannot see.
_TINY = ModelConfig(
    size="tiny",
    embed_dim=96,
    depth=4,
    num_heads=3,
    upsample=2,
    pos_embed_side=16,
    window=4,
    rel_pos_window=4,
    neck_dim=64,
    prompt_heads=4,
    prompt_mlp_dim=256,
    levels=2,
    head_dim=16,
    detail_dims=(16, 32, 64),
    refine_dims=(16, 32, 64, 64),
    click_map_sigmas=(3.0, 10.0, 30.0),
    click_map_scales=(1, 3, 5),
    click_map_tolerances=(0.12, 0.35),
)

# What `tiny` is without what this project added, so that its share can be told: the published model in small.
_TINY_PUBLISHED = dataclasses.replace(
    _TINY,
    size="tiny_published",
    detail_dims=(),
    refine_dims=(),
    click_map_sigmas=(),
    click_map_scales=(),
    click_map_tolerances=(),
)

# For tests alone: every mechanism of the sizes above, in milliseconds.
_TEST = ModelConfig(
    size="test",
    embed_dim=24,
    depth=4,
    num_heads=2,
    global_blocks=(3,),
    roi_size=32,
    pos_embed_side=16,
    window=2,
    rel_pos_window=3,
    neck_dim=16,
    prompt_heads=2,
    prompt_mlp_dim=32,
    num_queries=3,
    head_dim=8,
)

MODEL_SIZES: dict[str, ModelConfig] = {c.size: c for c in (_TINY, _VIT_B, _VIT_L, _VIT_H, _TINY_PUBLISHED, _TEST)}
"""The sizes that can be built, by name."""
