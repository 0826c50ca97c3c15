"""Starting values for a size that has no SAM checkpoint to start from."""

import torch
from torch import Tensor, nn

from lib.models.build import build_model
from lib.models.sam3d import Sam3dAdapter


def build_from_scratch(size: str, seed: int) -> Sam3dAdapter:
    """A network to train as a whole; the same seed gives the same values, in whatever process.

    Args:
        size: One of `lib.models.config.MODEL_SIZES`.
        seed: Of every value.
    """
    # Convolutions take their first values from the global generator.
    torch.manual_seed(seed)
    model = build_model(size)
    initialise_from_scratch(model, torch.Generator().manual_seed(seed))
    return model


def sine_positions(length: int, dim: int) -> Tensor:
    """Sine and cosine of a coordinate at `dim / 2` frequencies: (length, dim)."""
    frequency = 100.0 ** (-torch.arange(dim // 2) / (dim // 2))
    angle = torch.arange(length)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


@torch.no_grad()
def initialise_from_scratch(model: Sam3dAdapter, generator: torch.Generator) -> None:
    """Give a model values from which all of it can be trained at once.

    Linear layers get SAM's truncated normal; positions start as sines over a third of the channels an axis, because
    from zero a short training never finds them.

    Args:
        model: Changed in place.
        generator: Source of every random number.
    """
    encoder = model.image_encoder
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
            nn.init.zeros_(module.bias)
    if model.mask_decoder.click_maps is not None:
        model.mask_decoder.click_maps.conv.reset_parameters()
    # Slices: the mean over depth, so that the folded stem starts as a plain 3-D patch embedding.
    encoder.slice_embed.weight.fill_(1 / encoder.slice_embed.weight.shape[-1])
    encoder.slice_embed.get_parameter("bias").zero_()
    third = encoder.pos_embed.shape[-1] // 6 * 2
    side = encoder.pos_embed.shape[1]
    encoder.pos_embed.zero_()
    encoder.depth_embed.zero_()
    table = 0.5 * sine_positions(side, third)
    encoder.pos_embed[..., :third] = table[None, :, None]
    encoder.pos_embed[..., third : 2 * third] = table[None, None]
    encoder.depth_embed[..., 2 * third : 3 * third] = 0.5 * sine_positions(encoder.depth_embed.shape[1], third)
