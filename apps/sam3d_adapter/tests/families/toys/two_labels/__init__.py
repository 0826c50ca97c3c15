"""A family that answers with two labels: the structure under the click, and its rim."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, label

from lib.files.yaml_section import Section
from lib.models.checkpoint import file_sha256
from lib.models.loading import LoadReport
from lib.models.safetensors_file import read_tensors
from lib.prompts.prompts import Prompts
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import Capabilities, LoadedModel, Options, Segmentation, Segmenter, Stages
from lib.segmenters.frozen_store import FrozenStore
from lib.volumes.volume import Volume

RIM_VOXELS = 2


class TwoLabelSegmenter:
    """Sees the whole volume at once."""

    capabilities = Capabilities(frozenset({"click"}), background_clicks=False, sees="volume")
    precision = "fp32"

    def __init__(self, loaded: LoadedModel, labels: Sequence[str]) -> None:
        self._tolerance, self._labels = float(loaded.model), {name: n for n, name in enumerate(labels, start=1)}

    def segment(self, image: Volume, prompts: Prompts, options: Options, stages: Stages) -> Segmentation:
        values = image.voxels.numpy().astype(np.float32)
        mask = np.zeros(values.shape, np.uint8, order="F")
        for click in prompts.foreground:
            pieces, _ = label(np.abs(values - values[click.ijk]) < self._tolerance)
            core = pieces == pieces[click.ijk]
            mask[binary_dilation(core, iterations=RIM_VOXELS) & ~core] = 2
            mask[core] = 1
        return Segmentation(mask, self._labels, prompts)


class TwoLabelFamily:
    name = "two_labels"
    sizes = ("one",)
    files = ("weights",)
    sections: tuple[str, ...] = ()

    def read_settings(self, preset: Section, size: str) -> None:
        return None

    def load(self, size: str, files: Mapping[str, Path], device: str, frozen: FrozenStore) -> tuple[Any, LoadReport]:
        tensors, _ = read_tensors(files["weights"], "the tolerance")
        return tensors["tolerance"], LoadReport(("tolerance",), version=file_sha256(files["weights"]))

    def segmenter(
        self, loaded: LoadedModel, settings: None, labels: Sequence[str], cache: SegmenterCache, precision: str
    ) -> Segmenter:
        return TwoLabelSegmenter(loaded, labels)

    def training_recipe(self) -> None:
        return None

    def how_to_supply(self, preset: str, size: str, missing: Sequence[str]) -> str:
        return f"{', '.join(missing)}: train it."


FAMILY = TwoLabelFamily()
