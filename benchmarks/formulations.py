"""What the cheap formulations save: time and peak memory beside the plain ones, same weights, one run.

python -m benchmarks.formulations [--sizes tiny vit_b] [--threads 2] [--result FILE]

Each row runs in a fresh process, so that its peak memory is its own; the rows of one size follow one another, so that
a shared machine's noise falls on all of them. "cheap" is the form that is served. The served task answers clicks on a
CT of 512 x 512 x 41 voxels (`.nii.gz`) with an ROI of 128 voxels a side, whole requests from the file to the written
mask; weights are random. A further click comes on an image that was read: ours is a second click beside the first, the
plain form, which keeps nothing between clicks, does all of it again.
"""

import argparse
import dataclasses
import itertools
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from benchmarks.plain import plain_decode, plain_encode
from benchmarks.results import Row, add_option, report
from lib.families.sam3d_adapter.network import Sam3dClickModel
from lib.host.itk_setup import warm_up_writer
from lib.infers.click_segmentation import ClickSegmentation
from lib.models.checkpoint import save_base, save_trained
from lib.models.prompts import RoiPrompts
from lib.presets import ModelPreset, Preset
from lib.pretraining.pretrain import build_from_scratch
from lib.segmenters.cache import SegmenterCache
from lib.segmenters.contract import LoadedModel
from lib.segmenters.intensity_settings import WindowIntensity
from lib.segmenters.roi.settings import RoiNetworkSettings, RoiSettings
from lib.serving.model_store import ModelSpec, ModelStore
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.volumes.read import VolumeCache

SHAPE, SPACING = (512, 512, 41), (0.8, 0.8, 5.0)
CLICKS = ((256, 250, 20), (262, 255, 21))
SECONDS = ("encode s", "further click s", "first click s", "further request s", "first request s")
SIZES = {"tiny": "tiny", "vit_b": "ViT-B", "vit_l": "ViT-L", "vit_h": "ViT-H"}
REPEATS = {"tiny": 5}
"""Runs of a size of which the median is shown; one of all others."""


class PlainEmbedding(NamedTuple):
    """An ROI and its feature maps."""

    roi: Tensor
    maps: list[Tensor]

    @property
    def nbytes(self) -> int:
        """More than any cache takes."""
        return 2**62


class PlainClickModel(Sam3dClickModel):
    """The same network computed the plain way."""

    def encode(self, roi: Tensor) -> Any:
        """Feature maps by the plain encoder."""
        return PlainEmbedding(roi, plain_encode(self.model.image_encoder, roi))

    def decode(self, embedding: Any, prompts: RoiPrompts) -> Tensor:
        """Logits by the plain decoder."""
        return plain_decode(self.model, embedding.roi, embedding.maps, prompts.clicks_dhw)


class PlainStore(ModelStore):
    """Gives the plain form of every model."""

    def get(self, spec: ModelSpec, device: str) -> LoadedModel:
        """As `ModelStore.get`."""
        loaded = super().get(spec, device)
        assert isinstance(loaded.model, Sam3dClickModel)
        return dataclasses.replace(loaded, model=PlainClickModel(loaded.model.model).eval())


def peak_mib() -> float:
    """Largest resident set of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def preset_of(size: str) -> Preset:
    """A task with one view of 128 mm and the weights that `write_files` leaves."""
    return Preset(
        name="formulations",
        description="Random weights",
        labels=("lesion",),
        model=ModelPreset("sam3d_adapter", size, (f"{size}_base.safetensors", f"{size}.safetensors")),
        settings=RoiNetworkSettings(
            RoiSettings(size=128, spacing_mm=1.0, axes="SAR"), WindowIntensity(clip_hu=(-160, 240), mean=40, std=60)
        ),
    )


def write_files(folder: Path, sizes: list[str]) -> None:
    """The image, and base and weights of each size, the same for all rows."""
    values = np.random.default_rng(0).normal(40, 60, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([*SPACING, 1.0])), folder / "ct.nii.gz")
    for size in sizes:
        model = build_from_scratch(size, 0)
        save_base(model, folder / f"{size}_base.safetensors")
        save_trained(model, folder / f"{size}.safetensors", provenance={"data": "none"})


def answer(task: ClickSegmentation, image: Path, clicks: tuple[tuple[int, int, int], ...]) -> dict[str, float]:
    """Milliseconds by stage of one request."""
    file, told = task({"image": str(image), "device": "cpu", "foreground": [list(click) for click in clicks]})
    Path(file).unlink()
    return dict(told["latency_ms"])


def one_row(folder: Path, size: str, form: str, dtype: str, repeats: int) -> None:
    """Measure in this process, and print a row of the table as JSON."""
    is_plain = form == "plain"
    models = PlainStore() if is_plain else ModelStore()
    logging.disable(logging.WARNING)
    preset = preset_of(size)
    warm_up_writer()
    rows, base = [], 0.0
    for _ in range(repeats):
        shared = SharedState(models, SegmenterCache(0 if is_plain else 2**30), VolumeCache(2**28), dtype)
        segmenter = PresetSegmenter(preset, folder, shared)
        models.get(segmenter.spec, "cpu")
        task = ClickSegmentation(segmenter, folder)
        base = base or peak_mib()
        first = answer(task, folder / "ct.nii.gz", CLICKS[:1])
        further = answer(task, folder / "ct.nii.gz", CLICKS[:1] if is_plain else CLICKS)
        network = [stages["encode"] + stages["decode"] for stages in (further, first)]
        rows.append([first["encode"], *network, further["total"], first["total"]])
    medians = (round(statistics.median(column) / 1000, 2) for column in zip(*rows, strict=True))
    own = {"size": SIZES[size], "type": dtype, "form": form, **dict(zip(SECONDS, medians, strict=True))}
    print(json.dumps({**own, "peak MiB": round(peak_mib()), "MiB before the first ROI": round(base)}))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "vit_b"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    add_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.row:
        folder, size, form, dtype = arguments.row
        one_row(Path(folder), size, form, dtype, repeats=REPEATS.get(size, 1))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), arguments.sizes)
        command = [sys.executable, "-m", "benchmarks.formulations", "--threads", str(arguments.threads)]

        def measured(size: str, dtype: str, form: str) -> Row:
            own = [*command, "--row", folder, size, form, dtype]
            row: Row = json.loads(subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True).stdout)
            return row

        rows = itertools.starmap(measured, itertools.product(arguments.sizes, ("fp32", "bf16"), ("plain", "cheap")))
        runs = ", ".join(f"{REPEATS.get(size, 1)} of {SIZES[size]}" for size in arguments.sizes)
        report(rows, f"runs: {runs}", arguments.result)


if __name__ == "__main__":
    main()
