"""Boundary detection (BD), after SAM2-3dMed (arXiv 2510.08967): where does the object end in a slice?"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHT = 0.1
"""Of the loss beside that of the masks, as published."""
WIDTH = 16
"""Channels of queries, keys and values."""


class BoundaryDetection(nn.Module):
    """A loss of slices, in training alone: the object's boundary must be seen in what the decoder reads.

    Boundary features, of the tap's finer level, ask what memory attention gave for the slice, which says which object
    is meant: ``softmax(Q K^T / sqrt d) V``.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.Conv2d(channels, WIDTH, 3, padding=1), nn.GELU(), nn.Conv2d(WIDTH, WIDTH, 1))
        self.key, self.value = nn.Conv2d(channels, WIDTH, 1), nn.Conv2d(channels, WIDTH, 1)
        self.out = nn.Conv2d(2 * WIDTH, 1, 3, padding=1)

    def forward(self, fine: Tensor, conditioned: Tensor, truth: Tensor) -> Tensor:
        """The balanced cross-entropy of a slice's boundary map.

        Args:
            fine: (1, C, 2h, 2w), of the tap, 8 pixels apart.
            conditioned: (1, C, h, w), the output of memory attention.
            truth: (P, P) bool, the object in the slice.
        """
        query, key, value = self.query(fine), self.key(conditioned), self.value(conditioned)
        asked = (part.flatten(2).transpose(1, 2) for part in (query, key, value))
        answer = F.scaled_dot_product_attention(*asked).transpose(1, 2).view_as(query)
        said = self.out(torch.cat([query, answer], dim=1)).float()
        said = F.interpolate(said, scale_factor=2.0, mode="bilinear")
        return balanced_cross_entropy(said, boundary(truth, said.shape[-1]))


def boundary(truth: Tensor, side: int) -> Tensor:
    """(1, 1, side, side) float: 1 in cells that touch the border of a mask from inside or outside.

    Args:
        truth: (P, P) bool.
        side: cells a side.
    """
    cells = F.interpolate(truth[None, None].float(), (side, side), mode="area")
    grown = F.max_pool2d(cells, 3, stride=1, padding=1)
    shrunk = -F.max_pool2d(-cells, 3, stride=1, padding=1)
    return ((grown > 0.5) & (shrunk <= 0.5)).float()


def balanced_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy in which each class has the other's share of the cells as its weight."""
    share = truth.mean()
    weights = torch.where(truth > 0, 1 - share, share)
    return F.binary_cross_entropy_with_logits(logits, truth, weights)
