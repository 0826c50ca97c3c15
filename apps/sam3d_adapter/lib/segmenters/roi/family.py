"""What families of networks that see a cube have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lib.segmenters.roi.settings import RoiNetworkSettings, read_roi_settings

if TYPE_CHECKING:
    from lib.conversion.convert import Conversion
    from lib.conversion.job import ConversionJob
    from lib.files.yaml_section import Section
    from lib.segmenters.cache import SegmenterCache
    from lib.segmenters.contract import LoadedModel, Segmenter, TrainingRecipe


class RoiFamily:
    """Base of a family whose networks see a cube; the subclass names itself, its sizes and files, and loads them."""

    sections: tuple[str, ...] = ("roi", "intensity")

    def check_roi(self, size: str, roi_size: int) -> None:
        """Raise ConfigError where the size cannot take a region of so many voxels a side."""
        raise NotImplementedError

    def read_settings(self, preset: Section, size: str) -> RoiNetworkSettings:
        """As `Family.read_settings`."""
        return read_roi_settings(preset, lambda roi_size: self.check_roi(size, roi_size))

    def segmenter(
        self,
        loaded: LoadedModel,
        settings: RoiNetworkSettings,
        labels: Sequence[str],
        cache: SegmenterCache,
        precision: str,
    ) -> Segmenter:
        """As `Family.segmenter`."""
        from lib.segmenters.roi.segmenter import RoiSegmenter  # needs torch, which the list of families does not

        return RoiSegmenter(loaded, settings, labels[0], cache, precision)

    def training_recipe(self) -> TrainingRecipe | None:
        """None: a family that can be fine-tuned says how."""
        return None

    def convert(self, job: ConversionJob) -> Conversion:
        """As `Family.convert`: nobody publishes any."""
        from lib.models.checkpoint_error import CheckpointError

        raise CheckpointError(
            f"Nobody publishes files for preset '{job.preset}'. Train it, or choose a preset whose files are published."
        )

    def how_to_supply(self, preset: str, size: str, missing: Sequence[str]) -> str:
        """As `Family.how_to_supply`."""
        return f"{', '.join(missing)}: put the trained files there."
