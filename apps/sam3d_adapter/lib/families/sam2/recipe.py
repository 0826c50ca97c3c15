"""How SAM 2 is fine-tuned: memory attention, mask decoder and tap, on clips of slices; the encoder is frozen."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lib.families.sam2.clip_interactions import ClipInteractions
from lib.families.sam2.clips import LENGTHS, ClipStream
from lib.families.sam2.network import load_network, save_network
from lib.families.sam2.sizes import SIZES
from lib.families.sam2.trained_network import TrainedNetwork
from lib.learning.candidate import RECORDED_SHARE, TRAINING, CandidateJob, LoopRecipe
from lib.presets import Preset
from lib.training.stream import Source
from lib.training.train import TrainingConfig


class Sam2TrainingRecipe(LoopRecipe):
    """Trains the parts that `lib.families.sam2.trained_network` names.

    Args:
        losses: beside that of the masks; none, until they are shown to help.
    """

    batch = 2

    def __init__(self, losses: Sequence[str] = ()) -> None:
        self._losses = tuple(losses)

    def load(self, job: CandidateJob, device: torch.device) -> tuple[TrainedNetwork, Mapping[str, object]]:
        """As `LoopRecipe.load`."""
        size = job.preset.model.size
        model, report = load_network(size, job.files["weights"])
        return TrainedNetwork(model, size, self._losses, job.settings.seed).to(device), report.provenance

    def peak_lr(self, preset: Preset) -> float:
        """As `LoopRecipe.peak_lr`."""
        return SIZES[preset.model.size].peak_lr

    def stream(self, preset: Preset, sources: Sequence[Source], purpose: str, seed: int, **how: Any) -> ClipStream:
        """As `LoopRecipe.stream`; held-out clips are of the greatest length."""
        settings, pixels = preset.settings, SIZES[preset.model.size].pixels
        if purpose == TRAINING:
            return ClipStream(sources, settings, pixels, seed, recorded_share=RECORDED_SHARE, **how)
        return ClipStream(sources, settings, pixels, seed, lengths=LENGTHS[-1:], is_varied=False, **how)

    def objective(self, network: TrainedNetwork, config: TrainingConfig) -> ClipInteractions:
        """As `LoopRecipe.objective`."""
        return ClipInteractions(network, config)

    def save(self, network: TrainedNetwork, job: CandidateJob, provenance: Mapping[str, object]) -> None:
        """As `LoopRecipe.save`."""
        save_network(network.model, job.weights, network.config.size, provenance)
