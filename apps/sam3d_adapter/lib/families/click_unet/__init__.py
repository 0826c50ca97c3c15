"""The yardstick: a 3-D U-Net that takes the clicks and its previous answer as further input channels.

What needs torch is imported when it is used: the list of families is read without.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lib.families.click_unet.config import CLICK_UNET_SIZES, STRIDE
from lib.models.config import ConfigError
from lib.segmenters.roi.family import RoiFamily

if TYPE_CHECKING:
    from lib.families.click_unet.network import ClickUnet
    from lib.models.loading import LoadReport
    from lib.segmenters.frozen_store import FrozenStore


class ClickUnetFamily(RoiFamily):
    """The click-conditioned U-Net; one file, nothing frozen."""

    name = "click_unet"
    sizes: tuple[str, ...] = tuple(CLICK_UNET_SIZES)
    files: tuple[str, ...] = ("weights",)

    def check_roi(self, size: str, roi_size: int) -> None:
        """Raise ConfigError where the ROI cannot be halved often enough."""
        if roi_size % STRIDE or roi_size < 2 * STRIDE:
            raise ConfigError(f"click_unet takes ROI sides that are multiples of {STRIDE} from {2 * STRIDE} on.")

    def load(
        self, size: str, files: Mapping[str, Path], device: str, frozen: FrozenStore
    ) -> tuple[ClickUnet, LoadReport]:
        """Load the weights.

        Raises:
            CheckpointError: The file is absent or does not verify.
        """
        from lib.families.click_unet.network import load_click_unet

        model, report = load_click_unet(size, files["weights"])
        return model.to(device).eval().requires_grad_(False), report


FAMILY = ClickUnetFamily()
