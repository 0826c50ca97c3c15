"""The image encoder: SAM's ViT on the tokens of an ROI, made three-dimensional by adapters."""

import torch
from segment_anything.modeling.common import MLPBlock
from segment_anything.modeling.image_encoder import PatchEmbed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lib.models.adapter import SpatialAdapter
from lib.models.attention import WindowAttention3d
from lib.models.layers import LayerNorm3d, conv3x3x3
from lib.models.stem import folded_stem

_NORM_EPS = 1e-6  # segment_anything/build_sam.py


class Block3d(nn.Module):
    """A SAM transformer block behind a spatial adapter.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLP over `dim`.
        window: Side of a window in tokens.
        shift: Tokens by which its windows are shifted.
        rel_pos_side: See `WindowAttention3d`.
    """

    trained = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")

    def __init__(self, *, dim: int, num_heads: int, mlp_ratio: int, window: int, shift: int, rel_pos_side: int) -> None:
        super().__init__()
        self.adapter = SpatialAdapter(dim=dim, mid_dim=dim // 2)
        self.norm1 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.attn = WindowAttention3d(
            dim=dim, num_heads=num_heads, window=window, shift=shift, rel_pos_side=rel_pos_side
        )
        self.norm2 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.mlp = MLPBlock(dim, dim * mlp_ratio)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, H, W, D, C) to tokens of the same shape."""
        x = self.adapter(tokens)
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ImageEncoder3d(nn.Module):
    """Feature maps of an ROI at several depths of the transformer.

    Args:
        dim: Channels of a token.
        depth: Blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of a block's MLP over `dim`.
        window: Side of an attention window in tokens.
        rel_pos_sides: Side of SAM's relative positions, one a block.
        levels: Feature maps, one after each `depth / levels` blocks.
        neck_dim: Channels of a feature map.
        patch_size: Side of a patch in upsampled voxels.
        upsample: Upsampling factor before the patches.
        pos_embed_side: Side of SAM's absolute position table.
        max_tokens: Tokens along one axis of the largest ROI.
    """

    trained = ("depth_embed", "slice_embed.weight", "slice_embed.bias")

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: int,
        window: int,
        rel_pos_sides: tuple[int, ...],
        levels: int,
        neck_dim: int,
        patch_size: int,
        upsample: int,
        pos_embed_side: int,
        max_tokens: int,
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.max_tokens = max_tokens
        self.gradient_checkpointing = False
        self.patch_embed = PatchEmbed((patch_size, patch_size), (patch_size, patch_size), embed_dim=dim)
        self.slice_embed = nn.Conv3d(dim, dim, (1, 1, patch_size), stride=(1, 1, patch_size), groups=dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, pos_embed_side, pos_embed_side, dim))
        self.depth_embed = nn.Parameter(torch.ones(1, max_tokens, dim))
        self.blocks = nn.ModuleList(
            Block3d(
                dim=dim,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                window=window,
                shift=window // 2 if index % 2 == 0 else 0,
                rel_pos_side=side,
            )
            for index, side in enumerate(rel_pos_sides)
        )
        self.blocks_per_level = depth // levels
        self.neck_3d = nn.ModuleList(Neck3d(dim, neck_dim) for _ in range(levels))

    def forward(self, roi: Tensor) -> list[Tensor]:
        """Encode a normalised ROI.

        Args:
            roi: (B, 1, D, H, W), zero outside the image.

        Returns:
            One (B, C, H', W', D') map a level, the deepest last.
        """
        x = folded_stem(roi, self.patch_embed, self.slice_embed, upsample=self.upsample)
        x = x + self._positions(x.shape[1]).to(x.dtype)
        maps = []
        for index, block in enumerate(self.blocks, start=1):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
            if index % self.blocks_per_level == 0:
                maps.append(self.neck_3d[index // self.blocks_per_level - 1](x.permute(0, 4, 1, 2, 3)))
        return maps

    def _positions(self, tokens: int) -> Tensor:
        """Absolute positions (1, H', W', D', C) for a grid of `tokens` a side.

        A smaller ROI reads the middle of the tables: a token's position is its distance from the ROI's centre.
        """
        pool = self.pos_embed.shape[1] // self.max_tokens
        plane = F.avg_pool2d(self.pos_embed.permute(0, 3, 1, 2), pool).permute(0, 2, 3, 1)
        start = (self.max_tokens - tokens) // 2
        middle = slice(start, start + tokens)
        return plane[:, middle, middle, None] + self.depth_embed[:, None, None, middle]


class Neck3d(nn.Sequential):
    """From tokens (B, C, H, W, D) to a feature map of the decoder: two convolutions, each with a norm."""

    trained = ("0.weight", "1.weight", "1.bias", "2.weight", "3.weight", "3.bias")

    def __init__(self, dim: int, neck_dim: int) -> None:
        super().__init__(
            nn.Conv3d(dim, neck_dim, 1, bias=False),
            LayerNorm3d(neck_dim),
            conv3x3x3(neck_dim, neck_dim),
            LayerNorm3d(neck_dim),
        )
