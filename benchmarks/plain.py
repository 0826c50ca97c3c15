"""The same network computed the plain way: upsampled volume, stored attention matrices, nothing kept between clicks.

It runs on the parameters of a `Sam3dAdapter`, so tests and benchmarks compare like with like.
"""

import torch
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import Tensor
from torch.nn import functional as F

from lib.models.attention import WindowAttention3d, merge_windows, partition_windows
from lib.models.image_encoder import Block3d, ImageEncoder3d
from lib.models.mask_decoder import _space_to_channels
from lib.models.prompts import RoiPrompts
from lib.models.sam3d import Sam3dAdapter


def plain_stem(encoder: ImageEncoder3d, roi: Tensor) -> Tensor:
    """Tokens (B, H, W, D, C) by really upsampling the ROI and embedding every slice of it."""
    volume = F.interpolate(roi, scale_factor=encoder.upsample, mode="trilinear", align_corners=False)
    tokens = []
    for one in volume:  # (1, D, H, W)
        slices = one.expand(encoder.patch_embed.proj.in_channels, -1, -1, -1).transpose(0, 1)  # (D, 3, H, W)
        patches = encoder.patch_embed(slices)  # (D, H', W', C)
        embedded = encoder.slice_embed(patches.permute(3, 1, 2, 0)[None])  # (1, C, H', W', D')
        tokens.append(embedded.permute(0, 2, 3, 4, 1))
    return torch.cat(tokens)


def shift_mask(grid_hwd: tuple[int, int, int], window: int, shift: int) -> Tensor:
    """(windows, window^3, window^3): -100 between tokens that were not neighbours before the shift, else 0."""
    origin = torch.zeros(grid_hwd)
    for axis, side in enumerate(grid_hwd):
        shape = [1, 1, 1]
        shape[axis] = side
        where = torch.arange(side)
        band = (where >= side - window).long() + (where >= side - shift).long()
        origin = origin * 3 + band.view(shape)
    windows = partition_windows(origin[None, ..., None], window).squeeze(-1)
    return torch.where(windows[:, None] == windows[:, :, None], 0.0, -100.0)


def plain_attention(attn: WindowAttention3d, tokens: Tensor) -> Tensor:
    """Biased, masked softmax attention with the matrix of all token pairs of a window."""
    grid = (tokens.shape[1], tokens.shape[2], tokens.shape[3])
    shift, window = attn.shift, attn.window
    if shift:
        tokens = tokens.roll((-shift,) * 3, dims=(1, 2, 3))
    x = partition_windows(tokens, window)
    n, length, dim = x.shape
    q, k, v = attn.qkv(x).view(n, length, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    w = window
    q_grid = q.unflatten(2, (w, w, w))
    pairs = logits.view(*logits.shape[:2], w, w, w, w, w, w)
    row = torch.einsum("nahwdc,hkc->nahwdk", q_grid, get_rel_pos(w, w, attn.rel_pos_h))
    column = torch.einsum("nahwdc,wkc->nahwdk", q_grid, get_rel_pos(w, w, attn.rel_pos_w))
    slice_ = torch.einsum("nahwdc,dkc->nahwdk", q_grid, get_rel_pos(w, w, attn.rel_pos_d))
    scale = attn.rel_pos_scale
    pairs = (
        pairs + scale * row[..., None, None] + scale * column[..., None, :, None] + scale * slice_[..., None, None, :]
    )
    logits = pairs.view_as(logits)
    if shift:
        mask = shift_mask(grid, window, shift).to(logits)
        logits = logits + mask.repeat(n // len(mask), 1, 1).unsqueeze(1)
    x = (logits.softmax(-1) @ v).transpose(1, 2).reshape(n, length, dim)
    x = merge_windows(attn.proj(x), window, grid)
    return x.roll((shift,) * 3, dims=(1, 2, 3)) if shift else x


def plain_block(block: Block3d, tokens: Tensor) -> Tensor:
    """A transformer block with plain attention."""
    x = block.adapter(tokens)
    x = x + plain_attention(block.attn, block.norm1(x))
    return x + block.mlp(block.norm2(x))


def plain_encode(encoder: ImageEncoder3d, roi: Tensor) -> list[Tensor]:
    """All feature maps of an ROI."""
    x = plain_stem(encoder, roi)
    x = x + encoder._positions(x.shape[1])
    maps = []
    for index, block in enumerate(encoder.blocks, start=1):
        x = plain_block(block, x)
        if index % encoder.blocks_per_level == 0:
            maps.append(encoder.neck_3d[index // encoder.blocks_per_level - 1](x.permute(0, 4, 1, 2, 3)))
    return maps


def plain_decode(model: Sam3dAdapter, roi: Tensor, maps: list[Tensor], clicks_dhw: Tensor) -> Tensor:
    """Logits with every head and the whole fused convolution run for this click."""
    decoder, side = model.mask_decoder, roi.shape[-1]
    prompts = RoiPrompts(clicks_dhw)
    size = side // decoder.decode_stride
    prompted = [*maps[:-1], model.prompt_encoder(maps[-1], prompts, (side, side, side))]
    heads = [
        F.interpolate(decoder.mlahead.head(i)(x), size=(size,) * 3, mode="trilinear", align_corners=True)
        for i, x in enumerate(prompted)
    ]
    roi_hwd = roi.permute(0, 1, 3, 4, 2)
    image_hwd = F.interpolate(roi_hwd, size=(size,) * 3, mode="trilinear", align_corners=False)
    heads.append(image_hwd)
    if decoder.detail is not None:
        heads.append(decoder.detail(_space_to_channels(roi_hwd, decoder.decode_stride)))
    fused = decoder.classifier[0](torch.cat(heads, 1))
    if decoder.click_maps is not None:
        fused = fused + decoder.click_maps(
            clicks_dhw, prompts.foreground, decoder.click_maps.appearance(image_hwd), side
        )
    x = decoder.classifier[2](decoder.classifier[1](fused))
    x = decoder.classifier[3](decoder.refine(x))
    return F.interpolate(x, size=(side,) * 3, mode="trilinear", align_corners=True).permute(0, 1, 4, 2, 3)


def plain_forward(model: Sam3dAdapter, roi: Tensor, clicks_dhw: Tensor) -> Tensor:
    """Logits (B, 2, D, H, W) for one click, everything computed anew."""
    return plain_decode(model, roi, plain_encode(model.image_encoder, roi), clicks_dhw)
