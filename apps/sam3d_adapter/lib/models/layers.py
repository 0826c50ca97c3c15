"""Small layers that torch and segment-anything do not have."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_PAIRS = 2**14
"""Pairs of tokens whose matrix may be stored for the backward pass."""


class LayerNorm3d(nn.LayerNorm):
    """Normalise the channels of every voxel of a (B, C, *spatial) map, as SAM's LayerNorm2d does in the plane."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def conv3x3x3(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv3d:
    """A 3 x 3 x 3 convolution that keeps the grid (or halves it) and has no bias, because a norm follows."""
    return nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def upsample(x: Tensor, size: int, *, training: bool) -> Tensor:
    """Trilinear interpolation of (B, C, side, side, side) to (B, C, size, size, size), corners on corners.

    In training it is a product of matrices, equal but for rounding: interpolation and its backward pass take ten times
    as long on a CPU.
    """
    if not training:
        return F.interpolate(x, size=(size,) * 3, mode="trilinear", align_corners=True)
    b, c, side = x.shape[:3]
    unit = torch.eye(side, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))[None]
    along = F.interpolate(unit, size=size, mode="linear", align_corners=True)[0].T.to(x.dtype)  # (size, side)
    x = torch.matmul(x.reshape(-1, side), along.T)
    x = torch.matmul(along, x.view(-1, side, size))
    return torch.matmul(along, x.view(-1, side, size**2)).view(b, c, size, size, size)


def attend(query: Tensor, key: Tensor, value: Tensor, *, training: bool, scale: float | None = None) -> Tensor:
    """Scaled dot-product attention (..., N, C).

    In training on a CPU, the matrix of pairs is stored where tokens are few: in bfloat16 the backward pass of the fused
    kernel takes several times as long.
    """
    pairs = query.shape[-2] * key.shape[-2]
    if not training or pairs > MOST_PAIRS or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    # As in the fused kernel, logits are not rounded: some are as large as 100.
    with torch.autocast("cpu", enabled=False):
        query = query.float() * (query.shape[-1] ** -0.5 if scale is None else scale)
        weights = torch.matmul(query, key.float().transpose(-1, -2)).softmax(-1)
        return torch.matmul(weights.to(value.dtype), value)
