"""What the published model lacks: background clicks, the previous answer and a box, as input of the mask decoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.click_maps import nearness
from lib.models.layers import conv3x3x3
from lib.models.prompts import RoiPrompts


class Corrections(nn.Module):
    """Added to the first fused convolution where a request holds more than foreground clicks.

    Maps: nearness to foreground and to background clicks, one each for every sigma; the previous answer as 2 p - 1, 0
    where there is none; 1 inside the box. The convolution starts at zero, so that weights trained without it, the
    published ones among them, give the same logits until they are trained with it.

    Args:
        sigmas: Of the distance to a click, in ROI voxels.
        out_channels: Channels of the fused map.
    """

    def __init__(self, sigmas: tuple[float, ...], out_channels: int) -> None:
        super().__init__()
        self.sigmas = sigmas
        self.conv = conv3x3x3(2 * len(sigmas) + 2, out_channels)
        nn.init.zeros_(self.conv.weight)

    @property
    def knows_background(self) -> bool:
        """Whether background clicks make a difference."""
        return self._reads(slice(len(self.sigmas), 2 * len(self.sigmas)))

    @property
    def knows_previous(self) -> bool:
        """Whether the previous answer makes a difference."""
        return self._reads(slice(-2, -1))

    @property
    def knows_box(self) -> bool:
        """Whether a box makes a difference."""
        return self._reads(slice(-1, None))

    def _reads(self, channels: slice) -> bool:
        return bool(self.conv.weight[:, channels].any())

    def forward(self, prompts: RoiPrompts, size: int, roi_size: int) -> Tensor:
        """The maps' share of the fused map.

        Args:
            prompts: Of the ROI.
            size: Side of the fused map, in decoder voxels.
            roi_size: Side of the ROI in voxels.

        Returns:
            (B, out_channels, H, W, D).
        """
        with torch.no_grad():
            foreground = prompts.foreground
            maps = [
                nearness(prompts.clicks_dhw, chosen, self.sigmas, size, roi_size)
                for chosen in (foreground, ~foreground)
            ]
            empty = maps[0].new_zeros((len(maps[0]), 1, size, size, size))
            maps.append(empty if prompts.previous is None else _shrunk(prompts.previous, roi_size // size).to(empty))
            maps.append(empty if prompts.box_dhw is None else _inside(prompts.box_dhw, size, roi_size).to(empty))
        return self.conv(torch.cat(maps, dim=1).to(self.conv.weight.dtype))


def _shrunk(logit: Tensor, stride: int) -> Tensor:
    """(B, 1, D, H, W) logits to (B, 1, H, W, D) averages of 2 p - 1 over each decoder voxel."""
    return F.avg_pool3d(torch.tanh(logit.float() / 2), stride).permute(0, 1, 3, 4, 2)


def _inside(box_dhw: Tensor, size: int, roi_size: int) -> Tensor:
    """(B, 1, H, W, D) bool: decoder voxels whose centre lies in the box."""
    centres = (torch.arange(size, device=box_dhw.device) + 0.5) * (roi_size / size) - 0.5
    within = (centres >= box_dhw[:, 0, :, None] - 0.5) & (centres <= box_dhw[:, 1, :, None] + 0.5)  # (B, 3, size)
    d, h, w = within.unbind(1)
    return (h[:, :, None, None] & w[:, None, :, None] & d[:, None, None, :])[:, None]
