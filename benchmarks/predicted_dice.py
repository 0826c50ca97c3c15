"""Whether the predicted Dice of answers holds for patients that it was not learned from.

python -m benchmarks.predicted_dice --data NAME=PRESET=FOLDER [--data ...] [--without FILE] --out OUT [--result FILE]

FOLDER holds images/ and labels/ of equal names. A simulated user clicks ten times on every object, as in
docs/evaluation.md. Then patients are drawn at random, again and again: predictions are learned from some, as a server
does, and looked at with all others. "mean alone" predicts the mean Dice of those patients after as many clicks.
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
    """By kind of first click, number of patients and number of clicks.

    The predictions are learned from first clicks in the middle, as on a server.
    """
    by_mode = {mode: per_patient(dict(one) for one in records if one["mode"] == mode) for mode in MODES}
    learned = tuple(map(np.array, by_mode[MODES[0]]))
    for mode, patients in itertools.product(MODES, PATIENTS):
        if patients >= len(learned[0]):
            continue
        for clicks, found in draws(learned, tuple(map(np.array, by_mode[mode])), patients).items():
            mean = found.mean(axis=0)
            yield {
                "data": data.name,
                "first click": mode,
                "patients": patients,
                "others": len(learned[0]) - patients,
                "clicks": clicks,
                "error": round(mean[0], 3),
                "error of the mean alone": round(mean[1], 3),
                "covered": round(mean[2], 3),
                "covered in the worst 10 % of draws": round(float(np.quantile(found[:, 2], 0.1)), 2),
                "mean bound": round(mean[3], 2),
                "bound of the mean alone": round(mean[4], 2),
            }


def draws(
    learned: Sequence[NDArray[np.float64]], tested: Sequence[NDArray[np.float64]], patients: int
) -> dict[int, NDArray[np.float64]]:
    """By number of clicks what `DRAWS` draws gave, a row each, in the order of the columns of `rows`.

    Args:
        learned: (patients, clicks) expected and true Dice, to learn from.
        tested: The same of the same patients, to look at.
        patients: How many are learned from.
    """
    rng, found = np.random.default_rng(0), {clicks: np.zeros((DRAWS, 5)) for clicks in CLICKS}
    for draw in range(DRAWS):
        order = rng.permutation(len(learned[0]))
        own, others = order[:patients], order[patients:]
        expected, dice = (values[own] for values in learned)
        calibration, blind = (fit_calibration("", x, dice) for x in (expected, np.zeros_like(expected)))
        assert calibration is not None and blind is not None  # there are enough patients
        for clicks in CLICKS:
            x, y = (values[others, clicks - 1] for values in tested)
            said, mean = ([one.predict(value, clicks) for value in x] for one in (calibration, blind))
            bound = np.array([one.at_least for one in said])
            found[clicks][draw] = (
                np.abs([one.dice for one in said] - y).mean(),
                np.abs([one.dice for one in mean] - y).mean(),
                (y >= bound).mean(),
                bound.mean(),
                np.mean([one.at_least for one in mean]),
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
