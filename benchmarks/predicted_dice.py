"""Whether the predicted Dice of answers holds for patients that it was not learned from.

python -m benchmarks.predicted_dice --data NAME=PRESET=FOLDER [--data ...] [--without FILE] --out OUT [--result FILE]

FOLDER holds images/ and labels/ of equal names. A simulated user clicks ten times on every object, as in
docs/evaluation.md, with the first click in the middle and anywhere. Then patients are drawn at random, again and again:
predictions are learned from some, as a server does, and looked at with all others. "The mean alone" does not look at
the answer: it predicts the mean Dice after as many clicks.
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.dialogues import MODES, Data, evaluate
from benchmarks.results import Row, add_option, report
from lib.evaluation.ledger import read_records
from lib.learning.calibrate import per_patient
from lib.serving.predicted_dice import fit_calibration

PATIENTS = (20, 32)
CLICKS = (1, 3, 5, 10)
DRAWS = 500


def rows(data: Data, records: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """By number of patients, kind of first click and number of clicks."""
    expected, dice = map(np.array, per_patient(map(dict, records), MODES))
    for patients in (patients for patients in PATIENTS if patients < len(dice)):
        found = draws(expected, dice, patients)
        for way, clicks in itertools.product(range(len(MODES)), CLICKS):
            values = found[:, way, CLICKS.index(clicks)]
            error, mean_error, covered, bound, mean_bound = values.mean(axis=0)
            yield {
                "data": data.name,
                "patients": patients,
                "others": len(dice) - patients,
                "first click": MODES[way],
                "clicks": clicks,
                "Dice": round(float(dice[:, way, clicks - 1].mean()), 2),
                "error": round(error, 3),
                "error of the mean alone": round(mean_error, 3),
                "covered": round(covered, 3),
                "worst 10 % of draws": round(float(np.quantile(values[:, 2], 0.1)), 2),
                "bound": round(bound, 2),
                "bound of the mean alone": round(mean_bound, 2),
            }


def draws(expected: NDArray[np.float64], dice: NDArray[np.float64], patients: int) -> NDArray[np.float64]:
    """(`DRAWS`, ways, `CLICKS`, 5): error, that of the mean alone, share that is covered, both mean bounds.

    Args:
        expected: (patients, ways, clicks) Dice that the network expects.
        dice: (patients, ways, clicks), true.
        patients: How many are learned from; all others are looked at.
    """
    rng, found = np.random.default_rng(0), np.zeros((DRAWS, dice.shape[1], len(CLICKS), 5))
    for draw in range(DRAWS):
        order = rng.permutation(len(dice))
        own, others = order[:patients], order[patients:]
        calibration = fit_calibration("", expected[own], dice[own])
        blind = fit_calibration("", np.zeros_like(expected[own]), dice[own])
        assert calibration is not None and blind is not None  # there are enough patients
        for way, (at, clicks) in itertools.product(range(dice.shape[1]), enumerate(CLICKS)):
            true = dice[others, way, clicks - 1]
            said = [calibration.predict(value, clicks) for value in expected[others, way, clicks - 1]]
            mean, bounds = blind.predict(0.0, clicks), np.array([one.at_least for one in said])
            found[draw, way, at] = (
                np.abs([one.dice for one in said] - true).mean(),
                np.abs(mean.dice - true).mean(),
                (true >= bounds).mean(),
                bounds.mean(),
                mean.at_least,
            )
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", type=Data.parse, required=True, help="NAME=PRESET=FOLDER")
    parser.add_argument("--without", type=Path, help="names of the cases that are left out, one a line")
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser)
    arguments = parser.parse_args()
    without = set(arguments.without.read_text(encoding="utf-8").split()) if arguments.without else set()

    def measured() -> Iterator[Row]:
        for data in arguments.data:
            cases = [case for case in data.cases() if case not in without]
            out = arguments.out / data.name
            evaluate(data, cases, out, "--version", "shipped", "--jobs", "1")
            yield from rows(data, read_records(out))

    report(measured(), f"patients in the table; {DRAWS} draws a number", arguments.result)


if __name__ == "__main__":
    main()
