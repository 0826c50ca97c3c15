"""Prompts as a network takes them: tensors in the voxels of a region."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RoiPrompts:
    """Clicks of both kinds, the answer they correct and a box, for a batch of ROIs.

    Attributes:
        clicks_dhw: (B, N, 3) voxel indices of the ROI, order D, H, W; N >= 1.
        is_foreground: (B, N) bool, on the structure as opposed to beside it, at least one true in each row; None for
            all.
        previous: (B, 1, D, H, W) foreground logit of the answer that the clicks correct, or None.
        box_dhw: (B, 2, 3) first and last voxel of a box around the structure, order D, H, W, or None.
    """

    clicks_dhw: Tensor
    is_foreground: Tensor | None = None
    previous: Tensor | None = None
    box_dhw: Tensor | None = None

    @property
    def foreground(self) -> Tensor:
        """(B, N) bool."""
        if self.is_foreground is None:
            return torch.ones(self.clicks_dhw.shape[:2], dtype=torch.bool, device=self.clicks_dhw.device)
        return self.is_foreground

    @property
    def has_background(self) -> bool:
        """Whether any click is beside its structure."""
        return self.is_foreground is not None and not bool(self.is_foreground.all())

    @property
    def corrects(self) -> bool:
        """Whether there is anything but foreground clicks, which are all that the published model knows."""
        return self.has_background or self.previous is not None or self.box_dhw is not None
