"""The spatial adapter: the light trained part that lets frozen 2-D blocks see the third axis."""

from torch import Tensor, nn
from torch.nn import functional as F


class SpatialAdapter(nn.Module):
    """Bottleneck with a depthwise 3-D convolution and a residual (arXiv 2306.13465, figure 2).

    Args:
        dim: Channels of a token.
        mid_dim: Channels inside the bottleneck.
    """

    trained = ("linear1.weight", "linear1.bias", "conv.weight", "conv.bias", "linear2.weight", "linear2.bias")

    def __init__(self, *, dim: int, mid_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, mid_dim)
        self.conv = nn.Conv3d(mid_dim, mid_dim, 3, padding=1, groups=mid_dim)
        self.linear2 = nn.Linear(mid_dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, H, W, D, C) to tokens of the same shape."""
        x = F.relu(self.linear1(tokens)).permute(0, 4, 1, 2, 3)  # (B, C', H, W, D)
        x = F.relu(self.conv(x)).permute(0, 2, 3, 4, 1)
        return tokens + F.relu(self.linear2(x))
