"""How good presets are by kind and size of structure: a simulated user clicks on every labelled structure.

python -m benchmarks.structures --data NAME=PRESET=FOLDER [--data ...] [--weights BASE WEIGHTS] --out OUT \\
  [--result FILE]

FOLDER holds images/, labels/ and a manifest.json that names the values of each label map. Means are over
structures, not patients: few volumes with many structures tell kinds apart, but say little about patients.
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dialogues import CLICKS, MODES, Data, evaluate, unsure
from benchmarks.results import Row, add_option, report
from lib.evaluation.ledger import read_records

KINDS = {
    "lesion": r"lesion|tumou?r|gtv|mass",
    "bone": r"vertebra|rib|sacrum|hip|femur|humerus|scapula|clavicul|skull|stern|tibia|fibula|patella",
    "vessel": r"aorta|arter|vein|vena|trunk|vessel|lumen",
    "muscle": r"gluteus|autochthon|iliopsoas|muscle",
    "lung or airway": r"lung|trachea|bronch",
    "brain part": r"matter|csf|ventricle|cerebell|brainstem|callosum|spinal|brain",
}
"""Pattern of the names of each kind, the first that fits; all others are organs."""
SIZES_ML = (1.0, 10.0, 100.0)


def kind_of(name: str) -> str:
    """Kind of a structure by its name."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name.lower())), "organ")


def size_of(millilitres: float) -> str:
    """Class of a volume."""
    below = next((limit for limit in SIZES_ML if millilitres < limit), None)
    return f"below {below:g} ml" if below is not None else f"{SIZES_ML[-1]:g} ml and more"


def names_of(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Names of the label values, by case."""
    cases = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["cases"]
    return {case["case"]: case.get("labels", {}) for case in cases}


def rows(data: Data, records: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Means by kind, by size and of all, for each kind of first click."""
    names = names_of(data.folder)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        name = names.get(record["patient"], {}).get(str(record["label"]), "")
        millilitres = record["object_voxels"] * float(np.prod(record["spacing"])) / 1000
        for group in ("all", kind_of(name), size_of(millilitres)):
            groups[record["mode"], group].append(record)
    order = ["all", "organ", *KINDS, *(size_of(limit / 2) for limit in SIZES_ML), size_of(SIZES_ML[-1])]
    for mode in MODES:
        for group in order:
            if found := groups.get((mode, group)):
                yield {
                    "data": data.name,
                    "first click": mode,
                    "structures": group,
                    "n": len(found),
                    **{f"Dice at {k}": _mean([record["dice"][int(k) - 1] for record in found]) for k in CLICKS},
                    "drops above 0.01": _mean([_drops(record["dice"]) for record in found]),
                    **unsure(found),
                }


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 3)


def _drops(dice: Sequence[float]) -> float:
    """Share of the further clicks that lower Dice by more than 0.01."""
    return float(np.mean(np.diff(dice) < -0.01))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", type=Data.parse, required=True, help="NAME=PRESET=FOLDER")
    parser.add_argument("--weights", type=Path, nargs=2, metavar=("BASE", "WEIGHTS"), help="in place of the shipped")
    parser.add_argument("--every", type=int, default=1, help="click on every Nth case")
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser)
    arguments = parser.parse_args()
    options = ["--version", "shipped"]
    if arguments.weights:
        base, weights = (str(path.resolve()) for path in arguments.weights)
        options = ["--base", base, "--model", weights]

    def measured() -> Iterator[Row]:
        for data in arguments.data:
            out = arguments.out / data.name
            evaluate(data, data.cases()[:: arguments.every], out, "--labels-are-objects", *options)
            yield from rows(data, read_records(out))

    report(measured(), "structures in the table", arguments.result)


if __name__ == "__main__":
    main()
