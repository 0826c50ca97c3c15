"""What the predicted Dice of proposed masks is worth: ``sam3d propose`` on images whose labels it does not see.

python -m benchmarks.proposals --data PRESET=STRUCTURE=FOLDER [--labelled 20] [--others 30] --out OUT

FOLDER holds images/ and labels/ of equal names. The first images get their labels submitted, from which the place of
the structure is known and the predicted Dice is learned (``sam3d calibrate``); the others get proposals. OUT holds the
folder of studies, and the versions; the shipped weights answer.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.stats import bootstrap, spearmanr

from demo import REPOSITORY
from lib.evaluation.metrics import dice
from lib.evaluation.statistics import interval
from lib.host.studies_datastore import StudiesDatastore
from lib.workflow.proposals import TAG, predicted_dice_of


def measure(preset: str, structure: str, data: Path, out: Path, labelled: int, others: int) -> dict[str, Any]:
    """Dice of the proposals, how the predicted one ranks them, and how often the bound holds."""
    studies = out / "studies"
    studies.mkdir(parents=True)
    options = ["--preset", preset, "--studies", str(studies), "--learning-dir", str(out / "learning")]
    names = sorted(path.name.removesuffix(".nii.gz") for path in (data / "labels").glob("*.nii.gz"))
    known, hidden = names[:labelled], names[labelled : labelled + others]
    for name in (*known, *hidden):
        shutil.copy(data / "images" / f"{name}.nii.gz", studies)
    datastore = StudiesDatastore(str(studies))
    for name in known:
        file = out / "label.nii.gz"
        nib.save(nib.Nifti1Image(truth(data, name).astype(np.uint8), nib.load(studies / f"{name}.nii.gz").affine), file)
        datastore.save_label(name, str(file), "final", {"label_info": [{"name": structure, "idx": 1}]})
    for command in (["calibrate", *options], ["propose", *options, "--structure", structure]):
        subprocess.run([sys.executable, "-m", "sam3d", *command], check=True, cwd=REPOSITORY)
    datastore = StudiesDatastore(str(studies))
    found = {}
    for name in hidden:
        if path := datastore.get_label_uri(name, TAG):
            said = predicted_dice_of(datastore.get_label_info(name, TAG)) or {}
            mask = np.asarray(nib.load(path).dataobj) > 0
            found[name] = dice(mask, truth(data, name)), said.get("dice", np.nan), said.get("at_least", np.nan)
    true, predicted, bound = map(np.array, zip(*found.values(), strict=True))
    ranked = bootstrap((true, predicted), lambda x, y: spearmanr(x, y).statistic, paired=True, vectorized=False, rng=0)
    return {
        "proposed": len(found),
        "of": len(hidden),
        "without a prediction": int(np.isnan(predicted).sum()),
        "Dice": interval({name: float(values[0]) for name, values in found.items()}),
        "Dice predicted": float(predicted.mean()),
        "mean absolute error": float(np.abs(predicted - true).mean()),
        "error of the mean alone": float(np.abs(true - true.mean()).mean()),
        "Spearman": (float(spearmanr(true, predicted).statistic), *map(float, ranked.confidence_interval)),
        "bound": float(bound.mean()),
        "at or above the bound": float((true >= bound).mean()),
    }


def truth(data: Path, name: str) -> np.ndarray:
    """All structures of a label as one, (i, j, k) bool."""
    return np.asarray(nib.load(data / "labels" / f"{name}.nii.gz").dataobj) > 0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="PRESET=STRUCTURE=FOLDER")
    parser.add_argument("--labelled", type=int, default=20)
    parser.add_argument("--others", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True, help="folder that does not exist yet")
    arguments = parser.parse_args()
    preset, structure, data = arguments.data.split("=", 2)
    found = measure(preset, structure, Path(data), arguments.out.absolute(), arguments.labelled, arguments.others)
    for key, value in found.items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
