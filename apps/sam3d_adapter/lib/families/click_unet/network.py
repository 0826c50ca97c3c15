"""The click U-Net and its files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from lib.families.click_unet.config import CLICK_UNET_SIZES, ClickUnetConfig
from lib.files.checksums import file_sha256
from lib.models.checkpoint import read_provenance
from lib.models.checkpoint_error import CheckpointError
from lib.models.loading import LoadReport
from lib.models.prompts import RoiPrompts
from lib.models.safetensors_file import check_tensors, read_tensors, write_tensors

FORMAT = "click_unet/1"


@dataclass(frozen=True)
class RoiImage:
    """All that this network keeps of an ROI: the ROI.

    Attributes:
        roi: (B, 1, D, H, W).
    """

    roi: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.roi.nbytes


class ClickUnet(nn.Module):
    """Image, foreground clicks, background clicks and previous answer in, logits out.

    Args:
        config: Its numbers.
    """

    takes_previous = True
    takes_background = True
    takes_box = False

    def __init__(self, config: ClickUnetConfig) -> None:
        super().__init__()
        self.config = config
        self.net = BasicUNet(
            spatial_dims=3, in_channels=4, out_channels=2, features=config.features, norm=("instance", {"affine": True})
        )

    def encode(self, roi: Tensor) -> RoiImage:
        """The ROI itself: everything depends on the clicks."""
        return RoiImage(roi)

    def decode(self, embedding: RoiImage, prompts: RoiPrompts) -> Tensor:
        """(B, 2, D, H, W) logits; without a previous answer that channel is 0, which is no opinion."""
        roi = embedding.roi
        bumps = [self._bumps(prompts.clicks_dhw, chosen, roi) for chosen in (prompts.foreground, ~prompts.foreground)]
        previous = torch.zeros_like(roi) if prompts.previous is None else torch.tanh(prompts.previous / 2).to(roi.dtype)
        return self.net(torch.cat([roi, *bumps, previous], dim=1))

    def _bumps(self, clicks_dhw: Tensor, chosen: Tensor, roi: Tensor) -> Tensor:
        """(B, 1, D, H, W): a Gaussian at each chosen click, the nearest one counting."""
        squared = [
            (torch.arange(n, device=roi.device, dtype=roi.dtype) - clicks_dhw[..., axis, None]).square()
            for axis, n in enumerate(roi.shape[2:])
        ]  # each (B, N, n)
        d, h, w = squared
        distance = d[..., :, None, None] + h[..., None, :, None] + w[..., None, None, :]
        distance = distance.masked_fill(~chosen[..., None, None, None], torch.inf).amin(1, keepdim=True)
        return torch.exp(-distance / (2 * self.config.click_sigma**2))


def save_click_unet(model: ClickUnet, path: Path, *, provenance: Mapping[str, object]) -> None:
    """Write all parameters; the file is replaced atomically.

    Args:
        model: Whose parameters.
        path: Target.
        provenance: Where the weights come from: plain JSON values.
    """
    tensors = {name: value.detach().to("cpu").contiguous() for name, value in model.state_dict().items()}
    metadata = {"format": FORMAT, "config": model.config.to_json(), "provenance": json.dumps(dict(provenance))}
    write_tensors(tensors, path, metadata)


def load_click_unet(size: str, path: Path) -> tuple[ClickUnet, LoadReport]:
    """Read a file of `save_click_unet`.

    Raises:
        CheckpointError: The file is absent, damaged, of another kind or size, or holds values that are not finite.
    """
    what = f"the weights of click_unet size '{size}'"
    tensors, metadata = read_tensors(path, what)
    config = CLICK_UNET_SIZES[size]
    wanted = {"format": FORMAT, "config": config.to_json()}
    found = {key: metadata.get(key) for key in wanted}
    if found != wanted:
        raise CheckpointError(f"{path}: expected {wanted}, found {found}. Use {what}.")
    model = ClickUnet(config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    check_tensors(tensors, shapes, path, size=size)
    model.load_state_dict(tensors)
    return model, LoadReport(
        tuple(sorted(tensors)), version=file_sha256(path), provenance=read_provenance(metadata, path)
    )
