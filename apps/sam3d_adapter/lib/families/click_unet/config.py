"""The numbers of the click U-Net, for each size."""

import json
from dataclasses import asdict, dataclass

STRIDE = 16
"""The U-Net halves its input four times."""


@dataclass(frozen=True)
class ClickUnetConfig:
    """Numbers of one size.

    Attributes:
        size: Name.
        features: Channels of the five levels and of the last one again, as MONAI's BasicUNet takes them.
        click_sigma: Of the bump at a click, ROI voxels.
    """

    size: str
    features: tuple[int, int, int, int, int, int]
    click_sigma: float = 3.0

    def to_json(self) -> str:
        """Plain values, as stored in a checkpoint's metadata."""
        return json.dumps(asdict(self), sort_keys=True)


CLICK_UNET_SIZES = {
    config.size: config
    for config in (
        ClickUnetConfig("small", (16, 16, 32, 64, 128, 16)),
        ClickUnetConfig("test", (4, 4, 8, 8, 8, 4)),
    )
}
"""``small`` has about 1.4 M parameters; ``test`` is for tests alone."""
