"""Slice relative position prediction (SRPP), after SAM2-3dMed (arXiv 2510.08967): how far apart are two slices?"""

import torch
from torch import Tensor, nn

WEIGHT = 0.01
"""Of the loss beside that of the masks, as published."""
HEADS, LAYERS = 4, 2


class RelativePosition(nn.Module):
    """A loss of slices, in training alone: what the tap shows of a clip must say in which order its slices lie.

    A vector for each slice goes through a Transformer encoder, which is not told the order; a small network then says
    for each ordered pair (i, j) how many slices j lies above i.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(channels, HEADS, 2 * channels, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.pair = nn.Sequential(nn.Linear(2 * channels, channels), nn.ReLU(), nn.Linear(channels, 1))

    def forward(self, features: Tensor, positions: Tensor) -> Tensor:
        """The mean of ``(P_ij - (p_j - p_i))^2`` over ordered pairs of different slices.

        Args:
            features: (D, C, h, w), of the slices of a clip.
            positions: (D,), numbers of the slices, rising in one direction of the patient however the clip is read: a
                clip that is read backwards has the negative of each difference.
        """
        count = len(positions)
        if count < 2:
            return features.new_zeros(())
        vectors = self.encoder(features.mean(dim=(2, 3))[None])[0]
        first, second = (side.flatten() for side in torch.meshgrid(*[torch.arange(count)] * 2, indexing="ij"))
        differ = first != second
        first, second = first[differ].to(features.device), second[differ].to(features.device)
        said = self.pair(torch.cat([vectors[first], vectors[second]], dim=1))[:, 0]
        return (said.float() - (positions[second] - positions[first])).square().mean()
