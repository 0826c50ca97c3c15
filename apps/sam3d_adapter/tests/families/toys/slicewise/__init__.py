"""A family that sees one slice at a time: what it found in a slice is where it begins in the next."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label

from lib.files.yaml_section import Section
from lib.learning.candidate import CandidateJob
from lib.models.checkpoint import file_sha256
from lib.models.checkpoint_error import CheckpointError
from lib.models.loading import LoadReport
from lib.models.safetensors_file import read_tensors, write_tensors
from lib.prompts.prompt import prompt_kinds
from lib.prompts.prompts import Prompts
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import Capabilities, LoadedModel, Options, Segmentation, Segmenter, Stages
from lib.segmenters.frozen_store import FrozenStore
from lib.volumes.volume import Volume


@dataclass(frozen=True)
class Settings:
    """Of a preset: the image axis that slices lie along."""

    axis: int


class SlicewiseSegmenter:
    """Grows from the prompts within a slice, then slice by slice in both directions."""

    capabilities = Capabilities(frozenset({"click", "scribble"}), background_clicks=False, sees="slices")
    precision = "fp32"

    def __init__(self, loaded: LoadedModel, settings: Settings, name: str) -> None:
        self._tolerance, self._axis, self._name = float(loaded.model), settings.axis, name

    def segment(self, image: Volume, prompts: Prompts, options: Options, stages: Stages) -> Segmentation:
        seeds = [click.ijk for click in prompts.foreground]
        if "scribble" in prompt_kinds():
            seeds += [voxel for scribble in prompts.of(prompt_kinds()["scribble"]) for voxel in scribble.voxels]
        values = np.moveaxis(image.voxels.numpy().astype(np.float32), self._axis, 0)
        mask = np.zeros(values.shape, np.uint8)
        with stages.time("decode"):
            for seed in seeds:
                here = [seed[self._axis], *(index for axis, index in enumerate(seed) if axis != self._axis)]
                self._grow(values, mask, tuple(here))
        mask = np.asfortranarray(np.moveaxis(mask, 0, self._axis))
        for click in prompts.clicks:
            mask[click.ijk] = click.is_foreground
        return Segmentation(mask, {self._name: 1}, prompts, details={"slices": int(len(values))})

    def _grow(self, values: NDArray[np.float32], mask: NDArray[np.uint8], seed: tuple[int, ...]) -> None:
        first = np.zeros(values.shape[1:], bool)
        first[seed[1:]] = True
        for step in (1, -1):
            found, mean = first, float(values[seed])
            for number in range(seed[0], len(values) if step == 1 else -1, step):
                pieces, _ = label(np.abs(values[number] - mean) < self._tolerance)
                found = np.isin(pieces, np.unique(pieces[found & (pieces > 0)])) & (pieces > 0)
                if not found.any():
                    break
                mask[number][found] = 1
                mean = float(values[number][found].mean())  # carried into the next slice


class SlicewiseRecipe:
    """Training is one number: the widest spread of the labelled structures' values."""

    def train(self, job: CandidateJob) -> None:
        spreads = []
        for case in job.data.train:
            volume = case.read()
            spreads.append(float(np.ptp(volume.image[volume.labels > 0])))
        tensors = {"tolerance": torch.tensor([max(spreads)])}
        write_tensors(tensors, job.weights, {"provenance": json.dumps(job.provenance({}))})
        job.tell(epoch=1, total_epochs=1, seconds_left=0.0)


class SlicewiseFamily:
    name = "slicewise"
    sizes = ("one",)
    files = ("weights",)
    sections = ("slices",)

    def read_settings(self, preset: Section, size: str) -> Settings:
        section = preset.section("slices", required=("axis",))
        return Settings(section.whole_number("axis", low=0, high=2))

    def load(self, size: str, files: Mapping[str, Path], device: str, frozen: FrozenStore) -> tuple[Any, LoadReport]:
        tensors, _ = read_tensors(files["weights"], "the tolerance")
        if set(tensors) != {"tolerance"}:
            raise CheckpointError(f"{files['weights']}: expected one tensor, 'tolerance'; found {sorted(tensors)}.")
        return tensors["tolerance"], LoadReport(("tolerance",), version=file_sha256(files["weights"]))

    def segmenter(
        self, loaded: LoadedModel, settings: Settings, labels: Sequence[str], cache: SegmenterCache, precision: str
    ) -> Segmenter:
        return SlicewiseSegmenter(loaded, settings, labels[0])

    def training_recipe(self) -> SlicewiseRecipe:
        return SlicewiseRecipe()

    def how_to_supply(self, preset: str, size: str, missing: Sequence[str]) -> str:
        return f"{', '.join(missing)}: train it."


FAMILY = SlicewiseFamily()
