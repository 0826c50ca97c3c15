"""Shifted-window attention with decomposed relative positions, in the form that fused kernels can run.

The relative-position term depends on the query and on the row (column, slice) of the key alone, and the shift mask on
the regions of query and key alone. Both are therefore dot products, and go into the attention by a few more channels of
query and key: no matrix of token pairs is ever stored, forward or backward.
"""

import torch
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers import attend

REGION_PENALTY = 100.0
"""Logit distance between tokens of different shift regions (arXiv 2306.13465 follows Swin's -100)."""

_CHANNEL_MULTIPLE = 8
"""Fused kernels want head widths that are a multiple of this."""


def partition_windows(tokens: Tensor, window: int) -> Tensor:
    """Cut (B, H, W, D, C) into cubes: (B * windows, window^3, C), windows and tokens in (H, W, D) order."""
    b, h, w, d, c = tokens.shape
    x = tokens.view(b, h // window, window, w // window, window, d // window, window, c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, window**3, c)


def merge_windows(windows: Tensor, window: int, grid_hwd: tuple[int, int, int]) -> Tensor:
    """Put the cubes of `partition_windows` back together: (B, H, W, D, C)."""
    h, w, d = (side // window for side in grid_hwd)
    x = windows.view(-1, h, w, d, window, window, window, windows.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *grid_hwd, windows.shape[-1])


def shift_regions(grid_hwd: tuple[int, int, int], window: int, shift: int, device: torch.device) -> Tensor:
    """Which of the 8 regions of its window each token of a shifted grid belongs to.

    Only the last window along an axis holds tokens that were rolled in from the other side; they lie in its last
    `shift` places.

    Returns:
        (windows, window^3), integers 0-7 in the order of `partition_windows`.
    """
    rolled = [(torch.arange(side, device=device) >= side - shift).long() for side in grid_hwd]
    region = 4 * rolled[0][:, None, None] + 2 * rolled[1][:, None] + rolled[2]
    return partition_windows(region[None, ..., None], window).squeeze(-1)


class WindowAttention3d(nn.Module):
    """Multi-head attention inside cubic windows of one token grid.

    Args:
        dim: Channels of a token.
        num_heads: Heads.
        window: Side of a window in tokens.
        shift: Tokens by which the windows are shifted; 0 for none.
        rel_pos_side: Side of the 2-D attention for which SAM learned the relative positions.
    """

    trained = ("rel_pos_d",)

    def __init__(self, *, dim: int, num_heads: int, window: int, shift: int, rel_pos_side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.shift = shift
        head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * rel_pos_side - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * rel_pos_side - 1, head_dim))
        self.rel_pos_d = nn.Parameter(torch.zeros(2 * rel_pos_side - 1, head_dim))
        self.rel_pos_scale = nn.Parameter(torch.ones(()))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, H, W, D, C) to tokens of the same shape; H, W and D are multiples of the window."""
        grid_hwd = (tokens.shape[1], tokens.shape[2], tokens.shape[3])
        shifts = (self.shift,) * 3
        if self.shift:
            tokens = tokens.roll([-s for s in shifts], dims=(1, 2, 3))
        x = self._attend(partition_windows(tokens, self.window), grid_hwd)
        x = merge_windows(self.proj(x), self.window, grid_hwd)
        return x.roll(shifts, dims=(1, 2, 3)) if self.shift else x

    def _attend(self, windows: Tensor, grid_hwd: tuple[int, int, int]) -> Tensor:
        """Attention of windows (B * windows, window^3, C) with positions and regions in the channels."""
        n, length, dim = windows.shape
        qkv = self.qkv(windows).view(n, length, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (windows, heads, tokens, head_dim)
        query_parts = [q * q.shape[-1] ** -0.5, self._relative_positions(q)]
        key_parts = [k, self._one_hot_positions(k)]
        if self.shift:
            region = shift_regions(grid_hwd, self.window, self.shift, windows.device)
            one_hot = F.one_hot(region, 8).to(q.dtype).repeat(n // len(region), 1, 1).unsqueeze(1)
            one_hot = one_hot.expand(-1, self.num_heads, -1, -1)
            query_parts.append(REGION_PENALTY * one_hot)
            key_parts.append(one_hot)
        width = sum(part.shape[-1] for part in key_parts)
        pad = -width % _CHANNEL_MULTIPLE
        query = F.pad(torch.cat(query_parts, -1), (0, pad))
        key = F.pad(torch.cat(key_parts, -1), (0, pad))
        # Values get the same width: with unequal widths torch quietly takes the path that stores the matrix.
        value = F.pad(v, (0, width + pad - v.shape[-1]))
        x = attend(query, key, value, training=self.training, scale=1.0)[..., : v.shape[-1]]
        return x.transpose(1, 2).reshape(n, length, dim)

    def _relative_positions(self, q: Tensor) -> Tensor:
        """The position term of every query with each key row, column and slice: (..., tokens, 3 * window)."""
        w = self.window
        tables = [get_rel_pos(w, w, table).to(q.dtype) for table in (self.rel_pos_h, self.rel_pos_w, self.rel_pos_d)]
        grid = q.unflatten(2, (w, w, w))
        terms = (
            torch.einsum("nahwdc,hkc->nahwdk", grid, tables[0]),
            torch.einsum("nahwdc,wkc->nahwdk", grid, tables[1]),
            torch.einsum("nahwdc,dkc->nahwdk", grid, tables[2]),
        )
        return self.rel_pos_scale.to(q.dtype) * torch.cat(terms, -1).flatten(2, 4)

    def _one_hot_positions(self, k: Tensor) -> Tensor:
        """Row, column and slice of every key, one-hot: (..., tokens, 3 * window)."""
        eye = torch.eye(self.window, device=k.device, dtype=k.dtype)
        w = self.window
        row = eye[:, None, None].expand(w, w, w, w)
        column = eye[None, :, None].expand(w, w, w, w)
        slice_ = eye[None, None].expand(w, w, w, w)
        one_hot = torch.cat((row, column, slice_), -1).flatten(0, 2)
        return one_hot.expand(*k.shape[:2], -1, -1)
