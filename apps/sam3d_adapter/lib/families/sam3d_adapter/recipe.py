"""How 3DSAM-adapter is fine-tuned: its adapters and what else is trained, on the frozen base."""

from collections.abc import Mapping

import torch

from lib.files.atomic_write import replacing
from lib.learning.candidate import CandidateJob, RoiTrainingRecipe
from lib.models.checkpoint import load_model, save_trained
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import mark_trainable


class Sam3dTrainingRecipe(RoiTrainingRecipe):
    """Trains the parameters that `lib.models.trainable` names."""

    def load(self, job: CandidateJob, device: torch.device) -> tuple[Sam3dAdapter, Mapping[str, object]]:
        """As `LoopRecipe.load`."""
        files = job.files
        model, report = load_model(size=job.preset.model.size, base=files["base"], weights=files["weights"])
        mark_trainable(model.to(device))
        return model, report.provenance

    def save(self, network: Sam3dAdapter, job: CandidateJob, provenance: Mapping[str, object]) -> None:
        """As `LoopRecipe.save`."""
        with replacing(job.weights) as partial:
            save_trained(network.cpu(), partial, provenance=provenance, dtype=torch.float16)
