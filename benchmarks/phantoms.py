"""One click on held-out phantoms: the served model beside region growing and a blind ball.

python -m benchmarks.phantoms [--preset ct] [--cases 40] [--out DIR]

Both baselines are tuned on the development phantoms (seeds 1-24, which no weights were trained on either) for the click
they are then given; the table is made on others (seeds 100 and up). Scores are averaged within a phantom first; the
interval is a percentile bootstrap over phantoms.
"""

import argparse
import json
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from scipy.stats import bootstrap

from lib.inference.embedding_cache import EmbeddingCache
from lib.inference.model_store import ModelSpec, ModelStore
from lib.inference.precision import PRECISIONS
from lib.inference.predictor import Predictor
from lib.interaction.click import Click
from lib.interaction.roi import place_roi
from lib.phantoms.baselines import (
    Case,
    ball,
    centre_click,
    dice,
    grow_region,
    random_click,
    tune_ball,
    tune_region_growing,
)
from lib.phantoms.phantom import make_phantom
from lib.presets import Preset, load_preset
from lib.transforms.normalise import apply_window, intensity_window
from lib.transforms.paste import paste_mask
from lib.transforms.resample import resample_roi
from lib.transforms.volume import Volume, make_volume

APP = Path(__file__).resolve().parent.parent / "apps" / "sam3d_adapter"
DEVELOPMENT_SEEDS = range(1, 25)
TEST_SEED = 100
MODES = ("centre", "random")


def clicked_lesions(seeds: Sequence[int], mode: str) -> Iterator[tuple[int, float, Volume, Case]]:
    """(seed, diameter in mm, volume, case) of every lesion of these phantoms, with its first click."""
    for seed in seeds:
        phantom = make_phantom(seed)
        volume = make_volume(phantom.image, phantom.affine, f"phantom {seed}")
        spacing = tuple(np.linalg.norm(phantom.affine[:3, :3], axis=0).tolist())
        for lesion in phantom.lesions:
            truth = phantom.labels == lesion.label
            rng = np.random.default_rng([42, zlib.crc32(f"{seed}/{lesion.label}".encode()), 1])
            click = centre_click(truth) if mode == "centre" else random_click(truth, rng)
            yield seed, lesion.diameter_mm, volume, Case(phantom.image, truth, spacing, click)


def segment(
    volume: Volume, click: Sequence[int], preset: Preset, predictor: Predictor
) -> tuple[np.ndarray, float, float]:
    """Mask on the image's grid, ms of encode, ms of the click (decode and paste)."""
    i, j, k = click
    clicks = (Click((i, j, k), True),)
    roi = place_roi(
        clicks, tuple(volume.voxels.shape), volume.affine,
        size=preset.roi.size, spacing_mm=preset.roi.spacing_mm, roi_axes=preset.roi.axes,
    )  # fmt: skip
    voxels, inside = resample_roi(volume.voxels, roi)
    voxels = apply_window(voxels, inside, intensity_window(preset.intensity, volume))
    prediction = predictor.predict(voxels, torch.from_numpy(roi.clicks_to_dhw(clicks)))
    start = time.perf_counter()
    mask = paste_mask(prediction.logits, roi, 0.5)
    return mask.astype(bool), prediction.encode_ms, prediction.decode_ms + (time.perf_counter() - start) * 1000


def interval(scores: dict[int, list[float]]) -> dict[str, float]:
    """Mean over phantoms of the means within each, with its 95 % interval."""
    means = np.array([np.mean(s) for s in scores.values()])
    low, high = bootstrap(
        (means,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(42)
    ).confidence_interval
    return {"mean": float(means.mean()), "low": float(low), "high": float(high), "phantoms": len(means)}


def evaluate(mode: str, cases: int, preset: Preset, predictor: Predictor) -> dict[str, object]:
    """Scores of the model and both baselines for one kind of first click."""
    development = [case for *_, case in islice(clicked_lesions(DEVELOPMENT_SEEDS, mode), 40)]
    radius, _ = tune_ball(development)
    growing, _ = tune_region_growing(development)
    scores: dict[str, dict[int, list[float]]] = {"sam3d_adapter": {}, "region growing": {}, "ball": {}}
    rows, encode, click = [], [], []
    for seed, diameter, volume, case in clicked_lesions(range(TEST_SEED, TEST_SEED + cases), mode):
        mask, encode_ms, click_ms = segment(volume, case.click_ijk, preset, predictor)
        masks = {
            "sam3d_adapter": mask,
            "region growing": grow_region(case.image, case.spacing, case.click_ijk, growing),
            "ball": ball(case.truth.shape, case.spacing, case.click_ijk, radius),
        }
        row = {name: dice(m, case.truth) for name, m in masks.items()}
        for name, score in row.items():
            scores[name].setdefault(seed, []).append(score)
        rows.append({"seed": seed, "diameter_mm": diameter, **row})
        encode.append(encode_ms)
        click.append(click_ms)
        print(
            f"\r{mode}: {len(rows)} lesions, Dice {np.mean([r['sam3d_adapter'] for r in rows]):.3f}",
            end="",
            file=sys.stderr,
        )
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
    preset = load_preset(APP / "configs" / f"{arguments.preset}.yaml")
    folder = arguments.weights or APP / "weights"
    base, weights = (folder / Path(name).name for name in (preset.model.base, preset.model.weights))
    loaded = ModelStore().get(ModelSpec(preset.model.size, base, weights), "cpu")
    predictor = Predictor(loaded, EmbeddingCache(0), arguments.precision)
    results = {mode: evaluate(mode, arguments.cases, preset, predictor) for mode in MODES}
    print(f"weights {loaded.version}, {predictor.precision}")
    print(table(results))
    for mode, result in results.items():
        print(f"{mode}: encode ms {result['encode_ms']}, click ms {result['click_ms']}, tuned {result['tuned']}")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "phantoms.json").write_text(json.dumps({"weights": loaded.version, **results}, indent=1))


if __name__ == "__main__":
    main()
