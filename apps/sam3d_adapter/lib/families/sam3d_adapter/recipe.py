"""How 3DSAM-adapter is fine-tuned: its adapters and what else is trained, on the frozen base."""

from collections.abc import Mapping
from pathlib import Path

import torch

from lib.files.atomic_write import replacing
from lib.learning.candidate import RoiTrainingRecipe
from lib.models.checkpoint import load_model, save_trained
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import mark_trainable
from lib.training.network import Network


class Sam3dTrainingRecipe(RoiTrainingRecipe):
    """Trains the parameters that `lib.models.trainable` names."""

    def load(self, size: str, files: Mapping[str, Path], device: torch.device) -> tuple[Network, Mapping[str, object]]:
        """As `RoiTrainingRecipe.load`."""
        model, report = load_model(size=size, base=files["base"], weights=files["weights"])
        mark_trainable(model.to(device))
        return model, report.provenance

    def save(self, network: Network, path: Path, provenance: Mapping[str, object]) -> None:
        """As `RoiTrainingRecipe.save`."""
        assert isinstance(network, Sam3dAdapter)
        with replacing(path) as partial:
            save_trained(network.cpu(), partial, provenance=provenance, dtype=torch.float16)
