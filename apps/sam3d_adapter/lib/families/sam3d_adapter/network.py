"""A `Sam3dAdapter` as the engine for cubes asks it, and how it is loaded."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from lib.models.checkpoint import load_model
from lib.models.loading import LoadReport
from lib.models.prompts import RoiPrompts
from lib.models.sam3d import RoiEmbedding, Sam3dAdapter
from lib.models.trainable import frozen_names
from lib.segmenters.frozen_store import FrozenStore


class Sam3dClickModel(nn.Module):
    """A `Sam3dAdapter` behind the contract.

    What it can do follows from its weights: the published ones know foreground clicks alone, and would take a
    background click for one of them, until they are trained with signs, previous answers and boxes.
    """

    def __init__(self, model: Sam3dAdapter) -> None:
        super().__init__()
        self.model = model
        corrections = model.mask_decoder.corrections
        self.takes_previous = corrections.knows_previous
        self.takes_background = corrections.knows_background
        self.takes_box = corrections.knows_box

    def encode(self, roi: Tensor) -> RoiEmbedding:
        """As `Sam3dAdapter.encode`."""
        return self.model.encode(roi)

    def feature_map(self, roi: Tensor) -> Tensor:
        """(B, C, D', H', W'): the encoder's tokens behind its last neck."""
        deepest: Tensor = self.model.image_encoder(roi)[-1]
        return deepest.permute(0, 1, 4, 2, 3)  # tokens lie as (H', W', D')

    def decode(self, embedding: RoiEmbedding, prompts: RoiPrompts) -> Tensor:
        """As `Sam3dAdapter.decode`."""
        return self.model.decode(embedding, prompts)


def load_network(
    family: str, size: str, files: Mapping[str, Path], device: str, frozen: FrozenStore
) -> tuple[Sam3dClickModel, LoadReport]:
    """Loads base and weights; the frozen tensors are those of other networks on the same base, where there are any.

    Raises:
        CheckpointError: a file is absent or does not verify.
    """
    model, report = load_model(size=size, base=files["base"], weights=files["weights"])
    model = model.to(device).eval().requires_grad_(False)
    # By what they hold, not by the file: a base that was copied or replaced by an equal one is shared as well.
    key = (family, size, report.base_sha256, device)
    shared = frozen.get(key)
    if shared is None:
        frozen.share(key, {name: model.get_parameter(name) for name in frozen_names(model)}, model)
    else:
        frozen.join(shared, model)
    return Sam3dClickModel(model).eval(), report
