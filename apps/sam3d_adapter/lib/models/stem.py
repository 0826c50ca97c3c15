"""Upsampling, patch embedding and slice embedding folded into one linear map of the ROI's own patches."""

import torch
from segment_anything.modeling.image_encoder import PatchEmbed
from torch import Tensor, nn
from torch.nn import functional as F


def upsampling_matrix(*, patch_size: int, upsample: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Linear upsampling of the voxels under one patch, as a matrix.

    Args:
        patch_size: Upsampled voxels of a patch along one axis.
        upsample: Upsampling factor (align_corners=False).
        device: Where to make it.
        dtype: Its type.

    Returns:
        (patch_size, patch_size / upsample + 2): rows are upsampled voxels, columns the voxels under the patch with
        one of halo on each side. Each row sums to 1.
    """
    inner = patch_size // upsample
    # Interpolating the unit vectors gives the columns; the halo outside the middle patch is cut off again.
    unit = torch.eye(inner + 2, device=device, dtype=dtype).unsqueeze(0)  # (1, column, voxel)
    upsampled = F.interpolate(unit, scale_factor=upsample, mode="linear", align_corners=False)
    return upsampled[0, :, upsample : upsample + patch_size].T.contiguous()


def folded_stem(roi: Tensor, patch_embed: PatchEmbed, slice_embed: nn.Conv3d, *, upsample: int) -> Tensor:
    """Tokens of an ROI without ever making the upsampled volume.

    Trilinear interpolation, the 2-D patch convolution (its input channels are equal) and the depthwise slice
    convolution are linear and follow one another, so their kernels multiply into one. Replicating the border voxel is
    what align_corners=False interpolation does at the border. Gradients reach all factors.

    Args:
        roi: (B, 1, D, H, W).
        patch_embed: SAM's patch embedding, kernel and stride P in the plane.
        slice_embed: Depthwise convolution over depth, kernel (1, 1, P) in token order.
        upsample: Upsampling factor; P / upsample voxels become one token.

    Returns:
        (B, H', W', D', C): tokens, channels last.
    """
    patch_size = patch_embed.proj.kernel_size[0]
    fold = upsampling_matrix(patch_size=patch_size, upsample=upsample, device=roi.device, dtype=torch.float32)
    # The fold is a few million multiplications: done in fp32 even under autocast, so that only its result is rounded.
    with torch.autocast(roi.device.type, enabled=False):
        plane = torch.einsum("cpq,ph,qw->chw", patch_embed.proj.weight.float().sum(1), fold, fold)
        depth = slice_embed.weight.float().flatten(1) @ fold  # (C, P) @ (P, taps)
        kernel = torch.einsum("cd,chw->cdhw", depth, plane)
        bias = patch_embed.proj.bias.float() * depth.sum(1) + slice_embed.get_parameter("bias").float()
    taps, stride = kernel.shape[-1], patch_size // upsample
    patches = F.pad(roi, (1, 1, 1, 1, 1, 1), mode="replicate")[:, 0]
    for axis in (2, 3, 1):  # tokens are (H, W, D)
        patches = patches.unfold(axis, taps, stride)
    # A product of matrices and no convolution: for kernels this wide the convolution's backward pass is many times
    # slower on a CPU.
    patches = patches.permute(0, 2, 3, 1, 6, 4, 5).flatten(4)  # (B, H', W', D', taps^3), taps in (D, H, W)
    return F.linear(patches, kernel.flatten(1).to(roi.dtype), bias.to(roi.dtype))
