"""SAM 2 (arXiv 2408.00714): a volume is read slice by slice, and the object is tracked from the prompted slices on.

What needs torch is imported when it is used: the list of families is read without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.families.sam2.settings import SliceSettings, read_slice_settings
from lib.families.sam2.sizes import SIZES

if TYPE_CHECKING:
    import torch

    from lib.conversion.convert import Conversion
    from lib.conversion.job import ConversionJob
    from lib.files.yaml_section import Section
    from lib.models.loading import LoadReport
    from lib.pretraining.pretrain import Pretraining
    from lib.segmenters.cache import SegmenterCache
    from lib.segmenters.contract import LoadedModel, Segmenter, TrainingRecipe
    from lib.segmenters.frozen_store import FrozenStore


class Sam2Family:
    """SAM 2.1, MedSAM2, and a small network of the same kind."""

    name = "sam2"
    sizes: tuple[str, ...] = tuple(SIZES)
    files: tuple[str, ...] = ("weights",)
    sections: tuple[str, ...] = ("slices", "intensity")
    pretrained_sizes: tuple[str, ...] = tuple(name for name, size in SIZES.items() if not size.published)

    def read_settings(self, preset: Section, size: str) -> SliceSettings:
        """As `Family.read_settings`."""
        return read_slice_settings(preset)

    def load(self, size: str, files: Mapping[str, Path], device: str, frozen: FrozenStore) -> tuple[Any, LoadReport]:
        """As `Family.load`."""
        from lib.families.sam2.network import load_network

        model, report = load_network(size, files["weights"])
        return model.to(device).eval().requires_grad_(False), report

    def segmenter(
        self,
        loaded: LoadedModel,
        settings: SliceSettings,
        labels: Sequence[str],
        cache: SegmenterCache,
        precision: str,
    ) -> Segmenter:
        """As `Family.segmenter`."""
        from lib.families.sam2.segmenter import Sam2Segmenter

        return Sam2Segmenter(loaded, settings, labels[0], cache)

    def training_recipe(self) -> TrainingRecipe:
        """As `Family.training_recipe`."""
        from lib.families.sam2.recipe import Sam2TrainingRecipe

        return Sam2TrainingRecipe()

    def pretrain(self, size: str, training: Pretraining, device: torch.device) -> None:
        """As `PretrainedFamily.pretrain`."""
        from lib.families.sam2.pretrain import pretrain

        pretrain(size, training, device)

    def convert(self, job: ConversionJob) -> Conversion:
        """As `Family.convert`: from a checkpoint of Meta or of MedSAM2."""
        from lib.families.sam2.convert import convert

        return convert(job)

    def how_to_supply(self, preset: str, size: str, missing: Sequence[str]) -> str:
        """As `Family.how_to_supply`: the command that makes the file from a published checkpoint."""
        published = SIZES[size].published
        if not published:
            return (
                f"{', '.join(missing)}: train it with 'python -m sam3d weights --size {size} --data DATA --held-out "
                "FILE', and copy the file that it makes there; docs/weights.md says what DATA is."
            )
        sources = " or ".join(f"{one.file} ({one.url}, licence {one.licence})" for one in published)
        return (
            f"{', '.join(missing)}: fetch {sources}, then run 'python -m sam3d convert --preset {preset} "
            f"--checkpoint {published[0].file}' on the server."
        )


FAMILY = Sam2Family()
