"""What the transforms of logits share: their key, and the threshold that makes a mask of them."""

from monai.config import KeysCollection
from monai.transforms import MapTransform


class LogitsTransform(MapTransform):
    """Base of transforms of an ROI's logits.

    Args:
        keys: of the logits, (2, D, H, W), channel 1 the foreground.
        threshold: foreground probability above which a voxel belongs to the mask; between 0 and 1, both excluded.

    Raises:
        ValueError: a threshold out of range.
    """

    def __init__(self, keys: KeysCollection = "logits", *, threshold: float = 0.5) -> None:
        super().__init__(keys)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold (={threshold}) must lie between 0 and 1, both excluded.")
        self._threshold = threshold
