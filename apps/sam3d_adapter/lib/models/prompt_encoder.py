"""The prompt encoder: clicks, as image features sampled where they are, change the deepest feature map."""

import torch
from segment_anything.modeling.common import MLPBlock
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers import attend
from lib.models.prompts import RoiPrompts


def clicks_to_grid(clicks_dhw: Tensor, roi_shape_dhw: tuple[int, int, int]) -> Tensor:
    """Voxel indices in volume order to `grid_sample` coordinates on the (H, W, D) token map.

    Args:
        clicks_dhw: (..., 3) indices in the ROI; integer k is the centre of voxel k.
        roi_shape_dhw: ROI size in voxels.

    Returns:
        (..., 3) in [-1, 1], ordered (D, W, H) because `grid_sample` wants the last axis of the map first; for
        ``align_corners=False``.
    """
    size = clicks_dhw.new_tensor(roi_shape_dhw)
    return ((clicks_dhw + 0.5) * 2 / size - 1)[..., [0, 2, 1]]


class PromptAttention(nn.Module):
    """Multi-head attention between two token sets, with a narrower inside (as in SAM's two-way transformer).

    Args:
        dim: Channels outside.
        num_heads: Heads.
        downsample: `dim` over the channels inside.
    """

    def __init__(self, *, dim: int, num_heads: int, downsample: int = 1) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim // downsample)
        self.k_proj = nn.Linear(dim, dim // downsample)
        self.v_proj = nn.Linear(dim, dim // downsample)
        self.out_proj = nn.Linear(dim // downsample, dim)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Attend from (B, N, C) to (B, M, C), which are keys and values: (B, N, C)."""
        q, k, v = (
            proj(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for proj, x in ((self.q_proj, queries), (self.k_proj, keys), (self.v_proj, keys))
        )
        x = attend(q, k, v, training=self.training)
        return self.out_proj(x.transpose(1, 2).flatten(2))


class PromptLayer(nn.Module):
    """Learned queries read the clicks; the image then reads the queries.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        mlp_dim: Hidden width of the MLP.
        num_queries: Learned global queries.
    """

    def __init__(self, *, dim: int, num_heads: int, mlp_dim: int, num_queries: int) -> None:
        super().__init__()
        self.self_attn = PromptAttention(dim=dim, num_heads=num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLPBlock(dim, mlp_dim, act=nn.ReLU)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = PromptAttention(dim=dim, num_heads=num_heads, downsample=2)
        # Never run: the published model holds, counts and saves it without calling it, and so do its checkpoints.
        self.cross_attn_token_to_image = PromptAttention(dim=dim, num_heads=num_heads, downsample=2)
        self.global_query = nn.Parameter(0.1 * torch.randn(1, num_queries, dim))

    def forward(self, image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return image tokens (B, T, C) and click tokens (B, N, C) after this layer."""
        tokens = torch.cat([self.global_query.expand(len(points), -1, -1), points], dim=1)
        tokens = self.norm2(tokens + self.norm1(self.self_attn(tokens, tokens)))
        queries, points = tokens.split([self.global_query.shape[1], points.shape[1]], dim=1)
        queries = self.norm3(queries + self.mlp(queries))
        return self.norm4(image + self.cross_attn_image_to_token(image, queries)), points


class PromptTransformer(nn.Module):
    """A stack of `PromptLayer`; exists as a module because checkpoints name it."""

    def __init__(self, *, depth: int, dim: int, num_heads: int, mlp_dim: int, num_queries: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            PromptLayer(dim=dim, num_heads=num_heads, mlp_dim=mlp_dim, num_queries=num_queries) for _ in range(depth)
        )


class PromptEncoder3d(nn.Module):
    """Turn the deepest feature map towards the clicked structure.

    A foreground click acts through the feature under it alone, as in the published model; to that of a background
    click an embedding is added, which starts at zero. The order of clicks does not matter.

    Args:
        dim: Channels of the feature map.
        depth: Layers.
        num_heads: Attention heads.
        mlp_dim: Hidden width of the MLPs.
        num_queries: Learned global queries of each layer.
    """

    def __init__(self, *, dim: int, depth: int, num_heads: int, mlp_dim: int, num_queries: int) -> None:
        super().__init__()
        self.transformer = PromptTransformer(
            depth=depth, dim=dim, num_heads=num_heads, mlp_dim=mlp_dim, num_queries=num_queries
        )
        self.background_embed = nn.Parameter(torch.zeros(dim))

    def forward(self, feature_map: Tensor, prompts: RoiPrompts, roi_shape_dhw: tuple[int, int, int]) -> Tensor:
        """Apply clicks to a feature map.

        Args:
            feature_map: (B, C, H, W, D).
            prompts: Of the ROI; only its clicks act here.
            roi_shape_dhw: Size of the ROI in voxels.

        Returns:
            (B, C, H, W, D).
        """
        grid = clicks_to_grid(prompts.clicks_dhw.to(feature_map.dtype), roi_shape_dhw)[:, None, None]  # (B, 1, 1, N, 3)
        points = F.grid_sample(feature_map, grid, align_corners=False)[:, :, 0, 0].transpose(1, 2)  # (B, N, C)
        if prompts.has_background:
            points = points + torch.where(prompts.foreground[..., None], 0.0, self.background_embed).to(points.dtype)
        image = feature_map.flatten(2).transpose(1, 2)
        for layer in self.transformer.layers:
            image, points = layer(image, points)
        return image.transpose(1, 2).reshape(feature_map.shape)
