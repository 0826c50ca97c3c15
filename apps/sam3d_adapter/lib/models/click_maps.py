"""What the clicks say of every voxel, as input channels of the mask decoder: nearness, likeness, connectedness."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers import conv3x3x3
from lib.models.prompt_encoder import clicks_to_grid

SWEEPS = 2
"""Passes along all axes in both directions: enough for paths of a dozen turns, and a few milliseconds on a CPU."""


class ClickMaps(nn.Module):
    """Where the clicks are, what looks like them and what is connected with them, added to the first fused convolution.

    Three kinds of maps, all 1 at a click and falling to 0:

    - nearness: a Gaussian of the distance to the nearest click, one for each sigma;
    - likeness: a Gaussian of the difference of smoothed intensities, one for each tolerance and each smoothing: the
      scales' averages, and diffusion that stops at edges;
    - connectedness: for each likeness, the strength of the best path to a click, as strong as its weakest voxel (fuzzy
      connectedness; Udupa and Samarasekera 1996).

    The convolution starts at zero, so that weights trained without it give the same logits until they are trained
    with it.

    Args:
        sigmas: Of the distance, in ROI voxels.
        scales: Sides of the cubes, in decoder voxels, over which intensities are averaged; odd.
        tolerances: Standard deviations of the difference, in normalised intensity.
        out_channels: Channels of the fused map.
    """

    REFERENCE_SCALE = 3
    """Side of the cube, in decoder voxels, whose average stands for the clicked tissue: one voxel would be noise."""

    def __init__(
        self, sigmas: tuple[float, ...], scales: tuple[int, ...], tolerances: tuple[float, ...], out_channels: int
    ) -> None:
        super().__init__()
        self.sigmas = sigmas
        self.scales = scales
        self.tolerances = tolerances
        self.conv = conv3x3x3(len(sigmas) + 2 * (len(scales) + 1) * len(tolerances), out_channels)
        nn.init.zeros_(self.conv.weight)

    def appearance(self, image_hwd: Tensor) -> Tensor:
        """Smoothed copies of the image (B, 1, H, W, D): (B, 2 + scales, H, W, D).

        The average over the reference cube, the averages over each scale's, and the image smoothed between its edges.
        """
        with torch.no_grad():
            image = image_hwd.float()
            sides = (self.REFERENCE_SCALE, *self.scales)
            averages = {s: F.avg_pool3d(image, s, 1, s // 2, count_include_pad=False) for s in set(sides)}
            return torch.cat([*(averages[s] for s in sides), smooth_between_edges(image)], dim=1)

    def forward(self, clicks_dhw: Tensor, chosen: Tensor, appearance: Tensor, roi_size: int) -> Tensor:
        """The channels' share of the fused map.

        Args:
            clicks_dhw: (B, N, 3) in ROI voxels.
            chosen: (B, N) bool, the clicks that count; a row without any gives maps of 0.
            appearance: From `appearance`, at decoder resolution.
            roi_size: Side of the ROI in voxels.

        Returns:
            (B, out_channels, H, W, D).
        """
        with torch.no_grad():  # they depend on image and clicks alone
            like = self._likeness(clicks_dhw, chosen, appearance.float(), roi_size)
            size = like.shape[-1]
            maps = torch.cat([nearness(clicks_dhw, chosen, self.sigmas, size, roi_size), like], dim=1)
            linked = connectedness(like, _clicked_voxels(clicks_dhw, chosen, size, roi_size))
        return self.conv(torch.cat([maps, linked], dim=1).to(self.conv.weight.dtype))

    def _likeness(self, clicks_dhw: Tensor, chosen: Tensor, appearance: Tensor, roi_size: int) -> Tensor:
        reference, averages = appearance[:, :1], appearance[:, 1:]
        grid = clicks_to_grid(clicks_dhw, (roi_size,) * 3)[:, None, None].to(appearance.dtype)
        clicked = F.grid_sample(reference, grid, padding_mode="border", align_corners=False)  # (B, 1, 1, 1, N)
        # The click that a voxel resembles most counts.
        differences = [
            (averages - one[..., None]).square().masked_fill(~is_chosen[:, None, None, None, None], torch.inf)
            for one, is_chosen in zip(clicked.unbind(-1), chosen.unbind(1), strict=True)
        ]
        nearest = torch.stack(differences).amin(0)
        return torch.cat([torch.exp(-nearest / (2 * tolerance**2)) for tolerance in self.tolerances], dim=1)


def nearness(clicks_dhw: Tensor, chosen: Tensor, sigmas: tuple[float, ...], size: int, roi_size: int) -> Tensor:
    """Gaussians of the distance to the nearest chosen click.

    Args:
        clicks_dhw: (B, N, 3) in ROI voxels.
        chosen: (B, N) bool.
        sigmas: In ROI voxels.
        size: Side of the map, in decoder voxels.
        roi_size: Side of the ROI in voxels.

    Returns:
        (B, len(sigmas), H, W, D); 0 where no click of the row is chosen.
    """
    # The centre of decoder voxel k lies at ROI index (k + 1/2) * stride - 1/2.
    index = torch.arange(size, device=clicks_dhw.device, dtype=clicks_dhw.dtype)
    centres = (index + 0.5) * (roi_size / size) - 0.5
    squared = (clicks_dhw[..., None] - centres).square()  # (B, N, 3, size)
    squared = squared.masked_fill(~chosen[..., None, None], torch.inf)
    d, h, w = squared.unbind(2)
    distance = h[..., :, None, None] + w[..., None, :, None] + d[..., None, None, :]  # squared; (B, N, H, W, D)
    nearest = distance.amin(1)
    return torch.stack([torch.exp(-nearest / (2 * sigma**2)) for sigma in sigmas], 1)


def smooth_between_edges(image: Tensor, *, edge: float = 0.25, iterations: int = 16) -> Tensor:
    """Diffusion that neighbouring voxels of unlike intensity do not take part in (Perona and Malik 1990).

    Args:
        image: (B, 1, H, W, D).
        edge: Difference of neighbours, in normalised intensity, at which 1 / e of the flow is left.
        iterations: Steps of the largest size that is stable in three dimensions.

    Returns:
        The same shape.
    """
    image = image.clone()
    for _ in range(iterations):
        change = torch.zeros_like(image)
        for axis in (2, 3, 4):
            n = image.shape[axis] - 1
            difference = image.diff(dim=axis)
            flow = difference.div(edge).square_().neg_().exp_().mul_(difference)
            change.narrow(axis, 0, n).add_(flow)
            change.narrow(axis, 1, n).sub_(flow)
        image.add_(change, alpha=1 / 6)
    return image


def connectedness(likeness: Tensor, seeds: Tensor, *, sweeps: int = SWEEPS) -> Tensor:
    """For every voxel the best path to a seed, a path being as strong as its weakest voxel.

    Sweeps along each axis in both directions carry a strength straight on for as far as the likeness lasts; a path with
    more turns than the sweeps follow counts as weaker than it is.

    Args:
        likeness: (B, C, H, W, D), 0 to 1.
        seeds: (B, 1, H, W, D) bool.
        sweeps: Passes along all axes.

    Returns:
        (B, C, H, W, D), nowhere above the likeness; equal to it at the seeds.
    """
    linked = torch.where(seeds, likeness, 0.0)
    most_along_last = likeness.movedim(4, 0).contiguous()
    for _ in range(sweeps):
        for axis in (2, 3):
            _sweep(linked.unbind(axis), likeness.unbind(axis))
        # Slices of the last axis are copied together: one that is scattered takes several times longer.
        along_last = linked.movedim(4, 0).contiguous()
        _sweep(along_last.unbind(0), most_along_last.unbind(0))
        linked = along_last.movedim(0, 4).contiguous()
    return linked


def _sweep(have: Sequence[Tensor], most: Sequence[Tensor]) -> None:
    """Carry strengths along the slices of an axis and back, in place, as far as the likeness ``most`` lets them."""
    last = len(have) - 1
    for here, before in [(i, i - 1) for i in range(1, last + 1)] + [(i, i + 1) for i in reversed(range(last))]:
        torch.clamp(have[before], have[here], most[here], out=have[here])


def _clicked_voxels(clicks_dhw: Tensor, chosen: Tensor, size: int, roi_size: int) -> Tensor:
    """(B, 1, H, W, D) bool: the decoder voxels that hold a chosen click."""
    index = ((clicks_dhw + 0.5) * (size / roi_size) - 0.5).round().long().clamp(0, size - 1)
    seeds = torch.zeros((len(index), 1, size, size, size), dtype=torch.bool, device=clicks_dhw.device)
    batch = torch.arange(len(index), device=clicks_dhw.device)[:, None].expand(index.shape[:2])[chosen]
    d, h, w = index[chosen].unbind(-1)
    seeds[batch, 0, h, w, d] = True
    return seeds
