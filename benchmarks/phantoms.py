"""One click on held-out phantoms: the served model beside region growing and a ball that sees no image.

python -m benchmarks.phantoms [--preset ct] [--cases 40] [--out DIR] [--result FILE]

Both baselines were tuned on the development phantoms (benchmarks.tune_baselines) for the click they are then given;
the table is made on others (seeds 100 and up, unless --first says so). Scores are averaged within a phantom first; the
interval is a percentile bootstrap over phantoms.
"""

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy.stats import bootstrap

from benchmarks.baselines import Voxel, ball, dice, grow_region
from benchmarks.clicks import MODES, clicked_lesions
from benchmarks.results import Row, Value, add_option, report
from benchmarks.results import interval as rounded
from benchmarks.tune_baselines import frozen
from lib.files.checksums import file_sha256
from lib.models.precision import PRECISIONS
from lib.phantoms.phantom import Phantom
from lib.presets import load_preset
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.segmenters.contract import Stages
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.volumes.read import open_volume

APP = Path(__file__).resolve().parent.parent / "apps" / "sam3d_adapter"
TEST_SEED = 100


class Served:
    """The segmenter of a preset, without the server around it.

    Args:
        preset: Name of the preset.
        folder: Takes the images it reads.
        precision: See `lib.models.precision`.
        weights: Folder of other weights than the shipped ones.
    """

    def __init__(self, preset: str, folder: Path, precision: str = "auto", weights: Path | None = None) -> None:
        loaded = load_preset(APP / "configs" / f"{preset}.yaml")
        if weights is not None:
            files = tuple(str(weights.resolve() / Path(file).name) for file in loaded.model.files)
            loaded = dataclasses.replace(loaded, model=dataclasses.replace(loaded.model, files=files))
        self._segmenter = PresetSegmenter(loaded, APP, SharedState.of(precision=precision))
        self._folder = folder

    @property
    def version(self) -> str:
        """sha256 of the weights."""
        return file_sha256(self._segmenter.spec.weights)

    def __call__(self, phantom: Phantom, name: str, click: Voxel) -> tuple[np.ndarray, dict[str, float]]:
        """The mask (i, j, k) bool for one click, and milliseconds by stage."""
        path = self._folder / f"{name}.nii"
        if not path.exists():
            nib.save(nib.Nifti1Image(phantom.image, phantom.affine), path)
        stages = Stages()
        volume = open_volume(path, self._segmenter.shared.volumes)
        found = self._segmenter.open("cpu").segment(volume, Prompts((Click(click),)), stages=stages)
        return found.mask > 0, stages.milliseconds()


def interval(scores: dict[int, list[float]]) -> dict[str, float]:
    """Mean over phantoms of the means within each, with its 95 % interval."""
    means = np.array([np.mean(s) for s in scores.values()])
    low, high = bootstrap(
        (means,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(42)
    ).confidence_interval
    return {"mean": float(means.mean()), "low": float(low), "high": float(high), "phantoms": len(means)}


def evaluate(mode: str, seeds: range, preset: str, precision: str, weights: Path | None) -> dict[str, Any]:
    """Scores of the model and both baselines for one kind of first click."""
    torch.set_num_threads(1)
    radius, growing = frozen()[mode]
    scores: dict[str, dict[int, list[float]]] = {"sam3d_adapter": {}, "region growing": {}, "ball": {}}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        served = Served(preset, Path(folder), precision, weights)
        for seed, diameter, phantom, case in clicked_lesions(seeds, mode):
            mask, _ = served(phantom, f"phantom_{seed}", case.click_ijk)
            masks = {
                "sam3d_adapter": mask,
                "region growing": grow_region(case.image, case.spacing, case.click_ijk, growing),
                "ball": ball(case.truth.shape, case.spacing, case.click_ijk, radius),
            }
            row = {name: dice(m, case.truth) for name, m in masks.items()}
            for name, score in row.items():
                scores[name].setdefault(seed, []).append(score)
            rows.append({"seed": seed, "diameter_mm": diameter, **row})
            so_far = np.mean([r["sam3d_adapter"] for r in rows])
            print(f"{mode}: {len(rows)} lesions, Dice {so_far:.3f}", file=sys.stderr)
    return {
        "dice": {name: interval(s) for name, s in scores.items()},
        "dice_by_diameter": by_diameter(rows),
        "weights": served.version,
        "lesions": rows,
    }


def by_diameter(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean Dice of the model and number of lesions by diameter, mm."""
    bins = {}
    for low, high in itertools.pairwise((8, 16, 28, 45, 80)):
        chosen = [r["sam3d_adapter"] for r in rows if low <= r["diameter_mm"] < high]
        bins[f"{low}-{high}"] = {"dice": float(np.mean(chosen)) if chosen else float("nan"), "lesions": len(chosen)}
    return bins


def rows(results: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """One row a method and first click."""
    for mode, result in results.items():
        for name, found in result["dice"].items():
            row: dict[str, Value] = {"first click": mode, "method": name, "Dice": rounded(found)}
            if name == "sam3d_adapter":
                sizes = result["dice_by_diameter"].items()
                row |= {f"Dice, {mm} mm": round(size["dice"], 2) for mm, size in sizes if size["lesions"]}
            yield row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ct")
    parser.add_argument("--first", type=int, default=TEST_SEED, help="seed of the first phantom")
    parser.add_argument("--cases", type=int, default=40, help="phantoms")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--weights", type=Path, help="folder of other weights than the shipped ones")
    parser.add_argument("--out", type=Path, help="folder for phantoms.json")
    add_option(parser)
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.cases)
    given = seeds, arguments.preset, arguments.precision, arguments.weights
    with ProcessPoolExecutor(len(MODES), multiprocessing.get_context("spawn")) as pool:
        futures = {mode: pool.submit(evaluate, mode, *given) for mode in MODES}
        results = {mode: future.result() for mode, future in futures.items()}
    print(f"weights {results['centre']['weights']}, {arguments.precision}")
    report(rows(results), f"{arguments.cases} phantoms, {len(results['centre']['lesions'])} lesions", arguments.result)
    sizes = results["centre"]["dice_by_diameter"].items()
    print("lesions by diameter:", ", ".join(f"{mm} mm {size['lesions']}" for mm, size in sizes))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "phantoms.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
