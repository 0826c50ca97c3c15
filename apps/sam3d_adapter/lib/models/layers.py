"""Small layers that torch and segment-anything do not have."""

from torch import Tensor, nn


class LayerNorm3d(nn.LayerNorm):
    """Normalise the channels of every voxel of a (B, C, *spatial) map, as SAM's LayerNorm2d does in the plane."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def conv3x3x3(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv3d:
    """A 3 x 3 x 3 convolution that keeps the grid (or halves it) and has no bias, because a norm follows."""
    return nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
