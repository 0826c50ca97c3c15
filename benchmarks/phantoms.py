"""One click on held-out phantoms: the served model beside region growing and a blind ball.

python -m benchmarks.phantoms [--preset ct] [--cases 40] [--out DIR]

Both baselines are tuned on the development phantoms (seeds 1-24, which no weights were trained on either) for the click
they are then given; the table is made on others (seeds 100 and up). Scores are averaged within a phantom first; the
interval is a percentile bootstrap over phantoms.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy.stats import bootstrap

from lib.inference.embedding_cache import EmbeddingCache
from lib.inference.model_store import ModelStore
from lib.inference.precision import PRECISIONS
from lib.infers.click_segmentation import ClickSegmentation, SharedState
from lib.infers.options import read_request
from lib.models.checkpoint import file_sha256
from lib.phantoms.baselines import (
    Case,
    Voxel,
    ball,
    centre_click,
    dice,
    grow_region,
    random_click,
    tune_ball,
    tune_region_growing,
)
from lib.phantoms.phantom import Phantom, make_phantom
from lib.presets import load_preset
from lib.transforms.load_volume import VolumeCache

APP = Path(__file__).resolve().parent.parent / "apps" / "sam3d_adapter"
DEVELOPMENT_SEEDS = range(1, 25)
TEST_SEED = 100
MODES = ("centre", "random")


def clicked_lesions(seeds: Sequence[int], mode: str) -> Iterator[tuple[int, float, Phantom, Case]]:
    """(seed, diameter in mm, phantom, case) of every lesion of these phantoms, with its first click."""
    for seed in seeds:
        phantom = make_phantom(seed)
        spacing = tuple(np.linalg.norm(phantom.affine[:3, :3], axis=0).tolist())
        for lesion in phantom.lesions:
            truth = phantom.labels == lesion.label
            rng = np.random.default_rng([42, zlib.crc32(f"{seed}/{lesion.label}".encode()), 1])
            click = centre_click(truth) if mode == "centre" else random_click(truth, rng)
            yield seed, lesion.diameter_mm, phantom, Case(phantom.image, truth, spacing, click)


class Served:
    """The infer task of a preset, without the server around it.

    Args:
        preset: Name of the preset.
        folder: Takes the images it reads.
        precision: See `lib.inference.precision`.
        weights: Folder of other weights than the shipped ones.
    """

    def __init__(self, preset: str, folder: Path, precision: str = "auto", weights: Path | None = None) -> None:
        loaded = load_preset(APP / "configs" / f"{preset}.yaml")
        if weights is not None:
            files = tuple(str(weights.resolve() / Path(file).name) for file in loaded.model.files)
            loaded = dataclasses.replace(loaded, model=dataclasses.replace(loaded.model, files=files))
        shared = SharedState(ModelStore(), EmbeddingCache(2**30), VolumeCache(2**30), precision)
        self.task = ClickSegmentation(loaded, APP, shared)
        self._folder = folder

    @property
    def version(self) -> str:
        """sha256 of the weights."""
        return file_sha256(self.task.spec.weights)

    def __call__(self, phantom: Phantom, name: str, click: Voxel) -> tuple[np.ndarray, dict[str, float]]:
        """The mask (i, j, k) bool for one click, and milliseconds by stage."""
        path = self._folder / f"{name}.nii"
        if not path.exists():
            nib.save(nib.Nifti1Image(phantom.image, phantom.affine), path)
        data = read_request({"image": str(path), "foreground": [list(click)], "device": "cpu"})
        for transform in self.task.pre_transforms(data):
            data = transform(data)
        data = self.task.run_inferer(data)
        start = time.perf_counter()
        for transform in self.task.post_transforms(data):
            data = transform(data)
        milliseconds = data["stages"].milliseconds()
        milliseconds["paste"] = (time.perf_counter() - start) * 1000
        return np.asarray(data["pred"]) > 0, milliseconds


def interval(scores: dict[int, list[float]]) -> dict[str, float]:
    """Mean over phantoms of the means within each, with its 95 % interval."""
    means = np.array([np.mean(s) for s in scores.values()])
    low, high = bootstrap(
        (means,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(42)
    ).confidence_interval
    return {"mean": float(means.mean()), "low": float(low), "high": float(high), "phantoms": len(means)}


def evaluate(mode: str, cases: int, served: Served) -> dict[str, object]:
    """Scores of the model and both baselines for one kind of first click."""
    development = [case for *_, case in islice(clicked_lesions(DEVELOPMENT_SEEDS, mode), 40)]
    radius, _ = tune_ball(development)
    growing, _ = tune_region_growing(development)
    scores: dict[str, dict[int, list[float]]] = {"sam3d_adapter": {}, "region growing": {}, "ball": {}}
    rows, encode, click = [], [], []
    for seed, diameter, phantom, case in clicked_lesions(range(TEST_SEED, TEST_SEED + cases), mode):
        mask, milliseconds = served(phantom, f"phantom_{seed}", case.click_ijk)
        masks = {
            "sam3d_adapter": mask,
            "region growing": grow_region(case.image, case.spacing, case.click_ijk, growing),
            "ball": ball(case.truth.shape, case.spacing, case.click_ijk, radius),
        }
        row = {name: dice(m, case.truth) for name, m in masks.items()}
        for name, score in row.items():
            scores[name].setdefault(seed, []).append(score)
        rows.append({"seed": seed, "diameter_mm": diameter, **row})
        encode.append(milliseconds["encode"])
        click.append(milliseconds["decode"] + milliseconds["paste"])
        so_far = np.mean([r["sam3d_adapter"] for r in rows])
        print(f"\r{mode}: {len(rows)} lesions, Dice {so_far:.3f}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return {
        "dice": {name: interval(s) for name, s in scores.items()},
        "tuned": {"ball_radius_mm": radius, "region_growing": repr(growing)},
        "encode_ms": {"p50": float(np.percentile(encode, 50)), "p95": float(np.percentile(encode, 95))},
        "click_ms": {"p50": float(np.percentile(click, 50)), "p95": float(np.percentile(click, 95))},
        "lesions": rows,
    }


def table(results: dict[str, dict]) -> str:
    """Markdown: one row a method and first click."""
    lines = ["| first click | method | Dice, mean | 95 % interval | phantoms | lesions |", "|---|---|---|---|---|---|"]
    for mode, result in results.items():
        for name, d in result["dice"].items():
            lines.append(
                f"| {mode} | {name} | {d['mean']:.3f} | {d['low']:.3f}-{d['high']:.3f} | {d['phantoms']} "
                f"| {len(result['lesions'])} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ct")
    parser.add_argument("--cases", type=int, default=40, help="phantoms")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--weights", type=Path, help="folder of other weights than the shipped ones")
    parser.add_argument("--out", type=Path, help="folder for phantoms.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        served = Served(arguments.preset, Path(folder), arguments.precision, arguments.weights)
        results = {mode: evaluate(mode, arguments.cases, served) for mode in MODES}
    version = served.version
    print(f"weights {version}, {arguments.precision}")
    print(table(results))
    for mode, result in results.items():
        print(f"{mode}: encode ms {result['encode_ms']}, click ms {result['click_ms']}, tuned {result['tuned']}")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "phantoms.json").write_text(json.dumps({"weights": version, **results}, indent=1))


if __name__ == "__main__":
    main()
