"""3DSAM-adapter (arXiv 2306.13465): a frozen SAM base that all tasks of one size share, and a trained set for each.

What needs torch is imported when it is used: the list of families is read without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib.conversion.sam_files import SAM_FILES, SAM_URL
from lib.models.config import MODEL_SIZES
from lib.segmenters.roi.family import RoiFamily

if TYPE_CHECKING:
    import torch

    from lib.conversion.convert import Conversion
    from lib.conversion.job import ConversionJob
    from lib.families.sam3d_adapter.network import Sam3dClickModel
    from lib.models.loading import LoadReport
    from lib.pretraining.pretrain import Pretraining
    from lib.segmenters.contract import TrainingRecipe
    from lib.segmenters.frozen_store import FrozenStore


class Sam3dFamily(RoiFamily):
    """3DSAM-adapter (arXiv 2306.13465) in every size of `lib.models.config`."""

    name = "sam3d_adapter"
    sizes: tuple[str, ...] = tuple(MODEL_SIZES)
    files: tuple[str, ...] = ("base", "weights")
    pretrained_sizes: tuple[str, ...] = ("tiny",)

    def check_roi(self, size: str, roi_size: int) -> None:
        """Raise ConfigError where the position tables or windows of the size do not fit the ROI."""
        MODEL_SIZES[size].tokens(roi_size)

    def load(
        self, size: str, files: Mapping[str, Path], device: str, frozen: FrozenStore
    ) -> tuple[Sam3dClickModel, LoadReport]:
        """As `Family.load`."""
        from lib.families.sam3d_adapter.network import load_network

        return load_network(self.name, size, files, device, frozen)

    def training_recipe(self) -> TrainingRecipe:
        """As `Family.training_recipe`."""
        from lib.families.sam3d_adapter.recipe import Sam3dTrainingRecipe

        return Sam3dTrainingRecipe()

    def pretrain(self, size: str, training: Pretraining, device: torch.device) -> None:
        """As `PretrainedFamily.pretrain`."""
        from lib.pretraining.pretrain import pretrain

        pretrain(training, device)

    def convert(self, job: ConversionJob) -> Conversion:
        """As `Family.convert`: from the authors' checkpoint and SAM's own file."""
        from lib.families.sam3d_adapter.convert import convert

        return convert(job)

    def how_to_supply(self, preset: str, size: str, missing: Sequence[str]) -> str:
        """As `Family.how_to_supply`: the command that makes the files from the published checkpoint."""
        if size not in SAM_FILES:
            return super().how_to_supply(preset, size, missing)
        sam = SAM_FILES[size]
        return (
            f"{', '.join(missing)}: on the server, in the folder of the repository (or anywhere, if sam3d is "
            f"installed), run 'python -m sam3d convert --preset {preset} --checkpoint last.pth.tar'. "
            f"It makes them from the 3DSAM-adapter checkpoint of that task and SAM's {sam.name} "
            f"(sha256 {sam.sha256}), fetched from {SAM_URL}{sam.name} or given by --sam."
        )


FAMILY = Sam3dFamily()
