"""What boundary refinement at full resolution gives: masses of 5 to 15 cm on fine voxels, one click in the middle.

python -m benchmarks.fine_surface [--preset ct] [--first 5100] [--cases 10] [--result FILE]

Phantoms are drawn from the ranges of `lib.phantoms.config.MASSES`, but on voxels of 0.8 to 1.1 mm and slices of 1 to
2 mm. Dice, normalised surface Dice at 2 and 5 mm, and seconds on one thread, without and with ``refine``: the mean of
all, and of those that are good without it.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from benchmarks.baselines import centre_click
from benchmarks.phantoms import APP
from benchmarks.results import Row, add_option, report
from lib.evaluation.evaluated_segmenter import EvaluatedSegmenter, SegmenterChoice
from lib.evaluation.metrics import dice, surface_dice
from lib.phantoms.config import MASSES
from lib.phantoms.phantom import make_phantom
from lib.presets import load_preset
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.segmenters.contract import Options
from lib.serving.preset_segmenter import PresetSegmenter
from lib.volumes.read import open_volume

FINE = dataclasses.replace(
    MASSES, diameter_mm=(50.0, 150.0), spacing_mm=(0.8, 1.1), slice_mm=(1.0, 2.0), max_voxels=40_000_000
)

GOOD = 0.8
"""Dice of masses that were found, so that their surface is worth refining."""


def score(
    segmenter: PresetSegmenter, path: Path, truth: np.ndarray, spacing: tuple[float, ...], *, refine: bool
) -> tuple[list[float], int]:
    """Dice, NSD at 2 and 5 mm and seconds of one click, and the regions that were predicted again."""
    began = time.perf_counter()
    i, j, k = (int(n) for n in centre_click(truth))
    volume = open_volume(path, segmenter.shared.volumes)
    found = segmenter.segment(volume, Prompts((Click((i, j, k)),)), Options(refine=refine), device="cpu")
    seconds = time.perf_counter() - began
    mask = found.mask > 0
    return [dice(mask, truth), *surface_dice(mask, truth, spacing), seconds], found.details["refined"] or 0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ct")
    parser.add_argument("--first", type=int, default=5100, help="first seed")
    parser.add_argument("--cases", type=int, default=10, help="phantoms")
    add_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    evaluated = EvaluatedSegmenter(
        SegmenterChoice(APP, load_preset(APP / "configs" / f"{arguments.preset}.yaml"), "cpu")
    )
    evaluated.start()
    segmenter = evaluated.segmenter
    found: list[list[list[float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.first, arguments.first + arguments.cases):
            phantom = make_phantom(seed, config=FINE)
            path = Path(folder) / f"{seed}.nii"
            nib.save(nib.Nifti1Image(phantom.image, phantom.affine), path)
            for lesion in phantom.lesions:
                truth = phantom.labels == lesion.label
                coarse, _ = score(segmenter, path, truth, phantom.spacing, refine=False)
                fine, regions = score(segmenter, path, truth, phantom.spacing, refine=True)
                found.append([coarse, fine])
                print(f"{lesion.diameter_mm:.0f} mm, {regions} regions, {coarse} -> {fine}", file=sys.stderr)
            path.unlink()
    good = [pair for pair in found if pair[0][0] > GOOD]
    rows = [*means("all", found), *means(f"Dice above {GOOD} without refinement", good)]
    report(rows, f"{len(found)} masses in {arguments.cases} phantoms", arguments.result)


def means(name: str, found: Sequence[list[list[float]]]) -> Iterator[Row]:
    """Two rows of the table: the means without and with refinement."""
    for refined, values in zip(("no", "yes"), np.mean(found, axis=0).tolist() if found else (), strict=False):
        scores = {key: round(value, 3) for key, value in zip(("Dice", "NSD 2 mm", "NSD 5 mm"), values, strict=False)}
        yield {"masses": name, "n": len(found), "refined": refined, **scores, "s": round(values[3], 1)}


if __name__ == "__main__":
    main()
