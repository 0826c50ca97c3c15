"""3DSAM-adapter assembled: encode an ROI once, decode it for every set of clicks."""

from dataclasses import dataclass

from torch import Tensor, nn

from lib.models.config import ModelConfig
from lib.models.image_encoder import ImageEncoder3d
from lib.models.mask_decoder import MaskDecoder3d
from lib.models.prompt_encoder import PromptEncoder3d
from lib.models.prompts import RoiPrompts


@dataclass(frozen=True)
class RoiEmbedding:
    """All that a click needs to know of an ROI.

    Attributes:
        deepest: (B, C, H', W', D'), the deepest feature map.
        prepared: (B, C', size, size, size), see `MaskDecoder3d.prepare`.
        appearance: (B, C'', size, size, size) or None, likewise.
        roi_size: Side of the ROI in voxels.
    """

    deepest: Tensor
    prepared: Tensor
    appearance: Tensor | None
    roi_size: int

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        tensors = (self.deepest, self.prepared, self.appearance)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


class Sam3dAdapter(nn.Module):
    """Promptable segmentation of one ROI (arXiv 2306.13465).

    Args:
        config: The numbers it was built from.
        image_encoder: ROI to feature maps.
        prompt_encoder: Deepest feature map and clicks to a prompted map.
        mask_decoder: Maps to logits.
    """

    def __init__(
        self,
        *,
        config: ModelConfig,
        image_encoder: ImageEncoder3d,
        prompt_encoder: PromptEncoder3d,
        mask_decoder: MaskDecoder3d,
    ) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder

    def encode(self, roi: Tensor) -> RoiEmbedding:
        """Everything that depends on the image alone.

        Args:
            roi: (B, 1, D, H, W) normalised intensities, zero outside the image; a cube.

        Raises:
            ValueError: The shape is no cube, or its side does not fit this size.
        """
        side = roi.shape[-1]
        if roi.ndim != 5 or roi.shape[1:] != (1, side, side, side):
            raise ValueError(f"Expected an ROI of shape (B, 1, S, S, S), got {tuple(roi.shape)}.")
        self.config.tokens(side)
        *shallow, deepest = self.image_encoder(roi)
        return RoiEmbedding(deepest, *self.mask_decoder.prepare(roi, shallow), side)

    def decode(self, embedding: RoiEmbedding, prompts: RoiPrompts) -> Tensor:
        """Logits for what a user said.

        Args:
            embedding: From `encode`.
            prompts: Of the ROI.

        Returns:
            (B, 2, D, H, W): background and foreground, before softmax.
        """
        side = embedding.roi_size
        prompted = self.prompt_encoder(embedding.deepest, prompts, (side, side, side))
        return self.mask_decoder(prompted, embedding.prepared, embedding.appearance, prompts, side)

    def forward(self, roi: Tensor, prompts: RoiPrompts) -> Tensor:
        """`decode` of `encode`."""
        return self.decode(self.encode(roi), prompts)
