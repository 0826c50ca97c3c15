"""Whether Next Sample's predicted error tells where a first click is answered badly, and whether a pool's mean holds.

python -m benchmarks.score_against_deficit --data NAME=PRESET=FOLDER [--labels N] [--pool N] [--weights FILE] \\
  --out OUT [--result FOLDER]

FOLDER holds images/ and labels/ of equal names; all values of a label are one structure. Some cases are labelled. On
the others the model clicks as a server does beside itself, without their labels. Their deficit is 1 - Dice of the
answer to a first click in the true structure, the mean of one in its middle and one anywhere. A run that was stopped
goes on when the same command is given again.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, spearmanr

from benchmarks.dialogues import MODES, Data
from benchmarks.results import Row, Value, add_option, report
from demo import APP_DIR
from lib.activelearning.first_clicks import FirstClicks, found_clicks
from lib.activelearning.scoring import CaseScoring
from lib.evaluation.metrics import dice
from lib.evaluation.simulated_user import SimulatedUser
from lib.geometry.axes import spacing_of
from lib.host.studies_datastore import StudiesDatastore
from lib.host.workflow import Workflow
from lib.learning.pool_quality import pool_quality
from lib.presets import load_preset
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.serving.predicted_dice import fit_calibration
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter, SharedState
from lib.volumes.read import read_volume
from lib.workflow.scores import read_scores

PATIENTS = 20
"""From whom the Dice of the others is predicted: as few as may be."""
DRAWS = 200


def studies_of(data: Data, out: Path, labels: int, pool: int) -> StudiesDatastore:
    """A folder of images, some of them labelled: evenly taken from all, so that any order of the files is in both."""
    folder = out / "studies"
    folder.mkdir(parents=True, exist_ok=True)
    names = data.cases()
    names = names[:: max(1, len(names) // (labels + pool))][: labels + pool]
    labelled = set(names[:: max(1, len(names) // labels)][:labels])
    for name in names:
        if not (folder / f"{name}.nii.gz").exists():
            shutil.copyfile(data.folder / "images" / f"{name}.nii.gz", folder / f"{name}.nii.gz")
    store = StudiesDatastore(str(folder))
    for name in labelled - set(store.get_labeled_images()):
        file = out / "label.nii.gz"
        label = nib.load(data.folder / "labels" / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image((np.asarray(label.dataobj) > 0).astype(np.uint8), label.affine), file)
        store.save_label(name, str(file), "final", {"label_info": [{"name": "structure", "idx": 1}]})
    return store


def true_clicks(name: str, data: Data, segmenter: OpenSegmenter) -> dict[str, list[float]]:
    """By kind of first click in the true structure, the Dice that the network expects and the true one."""
    image = read_volume(data.folder / "images" / f"{name}.nii.gz")
    truth = np.asarray(nib.load(data.folder / "labels" / f"{name}.nii.gz").dataobj) > 0
    found = {}
    for mode in MODES:
        (click,) = SimulatedUser(truth, spacing_of(image.affine).tolist(), mode, 42, name).first_clicks()
        answer = segmenter.segment(image, Prompts((Click(click.ijk),)))
        assert answer.expected_dice is not None  # networks of these presets give probabilities
        found[mode] = [answer.expected_dice, dice(answer.mask > 0, truth)]
    return found


def measured(data: Data, out: Path, labels: int, pool: int, weights: Path | None) -> tuple[dict[str, FirstClicks], Any]:
    """Simulated clicks on what is found in the pool, by image, and `true_clicks` of all of the pool."""
    preset = load_preset(APP_DIR / f"configs/{data.preset}.yaml")
    app = APP_DIR
    if weights is not None:
        app = out / "app"
        for file in preset.model.files:
            (app / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(APP_DIR / file, app / file)
        shutil.copyfile(weights, app / preset.model.files[-1])
    segmenter = PresetSegmenter(preset, app, SharedState.of(256))
    store, workflow = studies_of(data, out, labels, pool), Workflow(out / "learning")
    scoring = CaseScoring({data.preset: segmenter}, workflow, features=False, clicks=True)
    scoring({"device": "cpu"}, store)
    served = segmenter.open("cpu")
    with workflow.database(store).reading() as connection:
        clicks = found_clicks(read_scores(connection, data.preset, served.model_version)).get("structure", {})
    file = out / f"true-{served.model_version[:12]}.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    for name in sorted(store.get_unlabeled_images()):
        if name not in known:
            known[name] = true_clicks(name, data, served)
            file.write_text(json.dumps(known))
    return clicks, known


def spearman(score: NDArray[np.float64], deficit: NDArray[np.float64]) -> Value:
    """Rank correlation with its 95 % percentile bootstrap interval over cases."""

    def rho(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
        return float(spearmanr(one, other).statistic)

    found = bootstrap(
        (score, deficit), rho, paired=True, vectorized=False, method="percentile", n_resamples=2000,
        rng=np.random.default_rng(42),
    ).confidence_interval  # fmt: skip
    return [round(rho(score, deficit), 2), round(float(found.low), 2), round(float(found.high), 2)]


def rows(data: Data, clicks: Mapping[str, FirstClicks], true: Mapping[str, Any]) -> Iterator[Row]:
    """Each score beside the deficit."""
    names = sorted(clicks)
    deficit = np.array([np.mean([1 - true[name][mode][1] for mode in MODES]) for name in names])
    own = {"data": data.name, "cases": len(true), "found": len(names), "deficit": round(float(deficit.mean()), 3)}
    scores = {
        "predicted error": [clicks[name].error(None) for name in names],
        "1 - expected Dice": [1 - float(np.mean(clicks[name].expected)) for name in names],
        "1 - agreement": [1 - clicks[name].agreement for name in names],
        "small size of what is found": [-clicks[name].size_mm3 for name in names],
    }
    for score, values in scores.items():
        yield {**own, "score": score, "Spearman": spearman(np.array(values), deficit)}


def quality_row(data: Data, clicks: Mapping[str, FirstClicks], true: Mapping[str, Any]) -> Row:
    """How often the interval of a pool's mean Dice holds the true one, over draws of those it is predicted from."""
    rng, names = np.random.default_rng(0), np.array(sorted(true))
    held, errors, widths = [], [], []
    for _ in range(DRAWS):
        order = rng.permutation(names)
        pairs = np.array([[true[name][mode] for mode in MODES] for name in order[:PATIENTS]])
        calibration = fit_calibration("", pairs[..., :1], pairs[..., 1:])
        pool = [name for name in order[PATIENTS:] if name in clicks]
        expected = [float(np.mean(clicks[name].expected)) for name in pool]
        assert calibration is not None
        said = pool_quality(calibration, "", expected, len(pool))
        assert said is not None
        mean = float(np.mean([true[name][mode][1] for name in pool for mode in MODES]))
        held.append(said.low <= mean <= said.high)
        errors.append(said.mean - mean)
        widths.append(said.high - said.low)
    return {
        "data": data.name,
        "labelled": PATIENTS,
        "pool": len(names) - PATIENTS,
        "draws": DRAWS,
        "true mean Dice": round(float(np.mean([true[name][mode][1] for name in names for mode in MODES])), 3),
        "mean error": round(float(np.mean(errors)), 3),
        "mean absolute error": round(float(np.mean(np.abs(errors))), 3),
        "width of the interval": round(float(np.mean(widths)), 3),
        "covered": round(float(np.mean(held)), 3),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Data.parse, required=True, help="NAME=PRESET=FOLDER")
    parser.add_argument("--labels", type=int, default=20, help="cases that are labelled")
    parser.add_argument("--pool", type=int, default=60, help="cases that are not")
    parser.add_argument("--weights", type=Path, help="in place of the shipped ones")
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser, ("score_against_deficit", "pool_quality"))
    arguments = parser.parse_args()
    data, folder = arguments.data, arguments.result
    clicks, true = measured(data, arguments.out, arguments.labels, arguments.pool, arguments.weights)
    n = f"{arguments.labels} labelled and {arguments.pool} other cases"
    report(rows(data, clicks, true), n, folder and folder / "score_against_deficit.json")
    report([quality_row(data, clicks, true)], n, folder and folder / "pool_quality.json")


if __name__ == "__main__":
    main()
