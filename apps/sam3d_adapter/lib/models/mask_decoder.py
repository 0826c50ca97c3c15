"""The mask decoder, in two parts: what an ROI needs once, and what every click needs again."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.click_maps import ClickMaps
from lib.models.corrections import Corrections
from lib.models.layers import conv3x3x3, upsample
from lib.models.prompts import RoiPrompts


def _conv_block(in_channels: int, out_channels: int, *, affine: bool) -> nn.Sequential:
    norm = nn.InstanceNorm3d(out_channels, affine=affine)
    return nn.Sequential(conv3x3x3(in_channels, out_channels), norm, nn.ReLU())


def _double_conv(in_channels: int, out_channels: int, *, affine: bool = False) -> nn.Sequential:
    first = _conv_block(in_channels, out_channels, affine=affine)
    return nn.Sequential(*first, *_conv_block(out_channels, out_channels, affine=affine))


class MultiLevelHeads(nn.Module):
    """One convolutional head a feature level, named head2, head3, ... as in the published checkpoints."""

    def __init__(self, *, levels: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.names = [f"head{level + 2}" for level in range(levels)]
        for name in self.names:
            self.add_module(name, _double_conv(in_channels, out_channels))

    def head(self, level: int) -> nn.Module:
        """The head of a feature level, 0 being the shallowest."""
        return self.get_submodule(self.names[level])


class ConvPyramid(nn.Module):
    """A small U-Net: down by averaging, up by repeating voxels, adding and convolving what was added.

    Its norms have weight and bias, unlike the published ones: a feature that is rare, such as a small structure's,
    needs another threshold than its mean.

    Args:
        in_channels: Channels of the input.
        dims: Channels at the input's resolution, then at half of it, and so on.
    """

    def __init__(self, in_channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _double_conv(i, o, affine=True) for i, o in zip((in_channels, *dims[:-1]), dims, strict=True)
        )
        self.up = nn.ModuleList(nn.Conv3d(i, o, 1, bias=False) for i, o in zip(dims[1:], dims[:-1], strict=True))
        self.merge = nn.ModuleList(_conv_block(dim, dim, affine=True) for dim in dims[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W, D) to (B, dims[0], H, W, D); H, W and D equal."""
        maps: list[Tensor] = []
        for level, convs in enumerate(self.down):
            x = convs(x if level == 0 else F.avg_pool3d(x, 2))
            maps.append(x)
        for level in reversed(range(len(self.up))):
            # Repeated, not interpolated: the convolution smooths, and a CPU interpolates as slowly as it convolves.
            x = self.merge[level](maps[level] + F.interpolate(self.up[level](x), size=maps[level].shape[-3:]))
        return x


def _space_to_channels(x: Tensor, factor: int) -> Tensor:
    b, _, h, w, d = x.shape
    x = x.view(b, h // factor, factor, w // factor, factor, d // factor, factor)
    return x.permute(0, 2, 4, 6, 1, 3, 5).reshape(b, factor**3, h // factor, w // factor, d // factor)


class MaskDecoder3d(nn.Module):
    """Fuse the feature levels and the image into logits.

    The first fused convolution is linear before its norm, so the share of everything that does not depend on clicks is
    summed once (`prepare`) and only the deepest head's share is added per click (`forward`).

    Args:
        levels: Feature levels.
        neck_dim: Channels of a feature map.
        head_dim: Channels of a head and of the fused map.
        num_classes: Logits.
        decode_stride: ROI voxels along one axis of a decoder voxel.
        detail_dims: Channels of a pyramid on the ROI's own voxels, for structure finer than a token; cached with the
            ROI. Empty for none.
        refine_dims: Channels of a pyramid on the fused map, run per click; the first is `head_dim`. Empty for none.
        click_map_sigmas: See `ClickMaps`; empty for none.
        click_map_scales: Likewise.
        click_map_tolerances: Likewise.
        correction_sigmas: See `Corrections`.
    """

    def __init__(
        self,
        *,
        levels: int,
        neck_dim: int,
        head_dim: int,
        num_classes: int,
        decode_stride: int,
        detail_dims: tuple[int, ...],
        refine_dims: tuple[int, ...],
        click_map_sigmas: tuple[float, ...],
        click_map_scales: tuple[int, ...],
        click_map_tolerances: tuple[float, ...],
        correction_sigmas: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.decode_stride = decode_stride
        self.mlahead = MultiLevelHeads(levels=levels, in_channels=neck_dim, out_channels=head_dim)
        self.detail = ConvPyramid(decode_stride**3, detail_dims) if detail_dims else None
        self.refine = ConvPyramid(head_dim, refine_dims) if refine_dims else nn.Identity()
        maps = (click_map_sigmas, click_map_scales, click_map_tolerances, head_dim)
        self.click_maps = ClickMaps(*maps) if click_map_sigmas else None
        self.background_maps = ClickMaps(*maps) if click_map_sigmas else None
        self.corrections = Corrections(correction_sigmas, head_dim)
        self.deepest = slice((levels - 1) * head_dim, levels * head_dim)
        fused = levels * head_dim + 1 + (detail_dims[0] if detail_dims else 0)
        self.classifier = nn.Sequential(
            conv3x3x3(fused, head_dim),
            nn.InstanceNorm3d(head_dim),
            nn.ReLU(),
            conv3x3x3(head_dim, num_classes),
        )

    def prepare(self, roi: Tensor, feature_maps: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """The part of the fused convolution that no click changes.

        Args:
            roi: (B, 1, D, H, W), the encoder's input.
            feature_maps: All levels but the deepest, each (B, C, H', W', D').

        Returns:
            (B, head_dim, size, size, size) in (H, W, D) order, before the norm; and what `ClickMaps` compares, if any.
        """
        size = roi.shape[-1] // self.decode_stride
        roi_hwd = roi.permute(0, 1, 3, 4, 2)
        parts = [upsample(self.mlahead.head(i)(x), size, training=self.training) for i, x in enumerate(feature_maps)]
        image_hwd = F.interpolate(roi_hwd, size=(size,) * 3, mode="trilinear", align_corners=False)
        parts.append(image_hwd)
        if self.detail is not None:
            # The voxels under each decoder voxel as channels: nothing of the full resolution is lost.
            parts.append(self.detail(_space_to_channels(roi_hwd, self.decode_stride)))
        weight = self.classifier[0].get_parameter("weight")
        unprompted = torch.cat((weight[:, : self.deepest.start], weight[:, self.deepest.stop :]), dim=1)
        appearance = None if self.click_maps is None else self.click_maps.appearance(image_hwd)
        if self.training:
            # The image apart: a CPU takes twice as long where the number of channels is no multiple of 16.
            image = len(feature_maps)
            weights = list(unprompted.split([part.shape[1] for part in parts], dim=1))
            alone = F.conv3d(parts.pop(image), weights.pop(image), padding=1)
            if not parts:
                return alone, appearance
            return F.conv3d(torch.cat(parts, dim=1), torch.cat(weights, dim=1), padding=1) + alone, appearance
        return F.conv3d(torch.cat(parts, dim=1), unprompted, padding=1), appearance

    def forward(
        self, prompted_map: Tensor, prepared: Tensor, appearance: Tensor | None, prompts: RoiPrompts, roi_size: int
    ) -> Tensor:
        """Logits of an ROI.

        Args:
            prompted_map: (B, C, H', W', D'), the deepest level after the prompt encoder.
            prepared: What `prepare` gave for the ROI.
            appearance: Likewise.
            prompts: Of the ROI.
            roi_size: Side of the ROI in voxels.

        Returns:
            (B, classes, D, H, W), before softmax.
        """
        size = prepared.shape[-1]
        deepest = upsample(self.mlahead.head(-1)(prompted_map), size, training=self.training)
        weight = self.classifier[0].get_parameter("weight")
        fused = prepared + F.conv3d(deepest, weight[:, self.deepest], padding=1)
        if self.click_maps is not None and appearance is not None:
            fused = fused + self.click_maps(prompts.clicks_dhw, prompts.foreground, appearance, roi_size)
        if self.background_maps is not None and appearance is not None and prompts.has_background:
            fused = fused + self.background_maps(prompts.clicks_dhw, ~prompts.foreground, appearance, roi_size)
        if prompts.corrects:
            fused = fused + self.corrections(prompts, size, roi_size)
        x = self.refine(F.relu(self.classifier[1](fused)))
        x = self.classifier[3](x)  # (B, classes, H, W, D)
        if self.training:  # in the order of the truths, so that a loss reads both in one sweep
            return upsample(x.permute(0, 1, 4, 2, 3), roi_size, training=True)
        return upsample(x, roi_size, training=False).permute(0, 1, 4, 2, 3)
