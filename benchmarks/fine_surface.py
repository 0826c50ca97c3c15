"""What looking again at full resolution gives: masses of 5 to 15 cm on fine voxels, one click in the middle.

python -m benchmarks.fine_surface [--preset ct] [--first 5100] [--cases 10]

Phantoms are drawn from the ranges of `lib.phantoms.config.MASSES`, but on voxels of 0.8 to 1.1 mm and slices of 1 to
2 mm. Dice, normalised surface Dice at 2 and 5 mm, and seconds on one thread, without and with ``refine``.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from benchmarks.baselines import centre_click
from benchmarks.phantoms import APP
from lib.evaluation.evaluated_task import EvaluatedTask, TaskChoice
from lib.evaluation.metrics import dice, surface_dice
from lib.phantoms.config import MASSES
from lib.phantoms.phantom import make_phantom
from lib.presets import load_preset

FINE = dataclasses.replace(
    MASSES, diameter_mm=(50.0, 150.0), spacing_mm=(0.8, 1.1), slice_mm=(1.0, 2.0), max_voxels=40_000_000
)


def score(
    task: EvaluatedTask, path: Path, truth: np.ndarray, spacing: tuple[float, ...], *, refine: bool
) -> tuple[list[float], int]:
    """Dice, NSD at 2 and 5 mm and seconds of one click, and the regions that were looked at again."""
    began = time.perf_counter()
    request = {"image": str(path), "device": "cpu", "result_extension": ".nii", "refine": refine}
    file, answer = task.task(request | {"foreground": [[int(n) for n in centre_click(truth)]]})
    seconds = time.perf_counter() - began
    assert file is not None  # the writer is never skipped
    mask = np.asarray(nib.load(file).dataobj) > 0
    Path(file).unlink()
    return [dice(mask, truth), *surface_dice(mask, truth, spacing), seconds], answer["refined"] or 0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ct")
    parser.add_argument("--first", type=int, default=5100, help="first seed")
    parser.add_argument("--cases", type=int, default=10, help="phantoms")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = EvaluatedTask(TaskChoice(APP, load_preset(APP / "configs" / f"{arguments.preset}.yaml"), "cpu"))
    task.start()
    print("| mm | regions | Dice | NSD 2 mm | NSD 5 mm | s |\n|---|---|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.first, arguments.first + arguments.cases):
            phantom = make_phantom(seed, config=FINE)
            path = Path(folder) / f"{seed}.nii"
            nib.save(nib.Nifti1Image(phantom.image, phantom.affine), path)
            for lesion in phantom.lesions:
                truth = phantom.labels == lesion.label
                coarse, _ = score(task, path, truth, phantom.spacing, refine=False)
                fine, regions = score(task, path, truth, phantom.spacing, refine=True)
                rows.append([coarse, fine])
                print(line(f"{lesion.diameter_mm:.0f}", f"{regions}", coarse, fine), flush=True)
            path.unlink()
    print(line(f"mean of {len(rows)}", "", *np.mean(rows, axis=0).tolist()))


def line(size: str, regions: str, coarse: list[float], fine: list[float]) -> str:
    """A row of the table, without and with the look."""
    pairs = " | ".join(f"{a:.3f} {b:.3f}" for a, b in zip(coarse[:3], fine[:3], strict=True))
    return f"| {size} | {regions} | {pairs} | {coarse[3]:.1f} {fine[3]:.1f} |"


if __name__ == "__main__":
    main()
