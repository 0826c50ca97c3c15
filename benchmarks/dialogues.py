"""How good presets are on labelled images: a simulated user clicks ten times on every object (docs/evaluation.md).

python -m benchmarks.dialogues --data NAME=PRESET=FOLDER [--data ...] [--only FILE | --every N] \\
  [--labels-are-objects] [--seeds 42,43] --out OUT [--result FILE]

FOLDER holds images/ and labels/ of equal names; several volumes of one patient have one name in several folders. The
first click lies in the middle of an object, or anywhere in it. Beside the preset's own weights stand the image-free
baselines. A run that was stopped goes on when the same command is given again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results import Row, Value, add_option, interval, report
from demo import REPOSITORY
from lib.evaluation.ledger import read_records

EVALUATE = [sys.executable, "-m", "sam3d", "evaluate"]
MODES = ("centre", "random")
CLICKS = ("1", "3", "5", "10")
BASELINES = {
    "ball": "ball",
    "centred_ellipsoid": "ellipsoid in the image's middle",
    "ellipsoid_in_box": "ellipsoid in the truth's box",
}


class Data(NamedTuple):
    """Images and labels, and the preset that is evaluated on them."""

    name: str
    preset: str
    folder: Path

    @classmethod
    def parse(cls, text: str) -> "Data":
        """NAME=PRESET=FOLDER."""
        parts = text.split("=", 2)
        if len(parts) != 3:
            raise argparse.ArgumentTypeError(f"'{text}' is not NAME=PRESET=FOLDER, such as CT=ct=data/sts_ct.")
        return cls(parts[0], parts[1], Path(parts[2]))

    def cases(self) -> list[str]:
        """Names of the images that have a label, without their ending."""
        return sorted(path.name.removesuffix(".nii.gz") for path in (self.folder / "labels").glob("*.nii.gz"))


def evaluate(data: Data, cases: Sequence[str], out: Path, *options: str) -> dict[str, Any]:
    """What ``summary.json`` of an evaluation holds.

    Args:
        data: Where the cases lie.
        cases: Those that are clicked on.
        out: Folder of the run.
        options: Further ones of ``sam3d evaluate``, such as ``--model``; the seed is 42 where they name none.

    Raises:
        subprocess.CalledProcessError: The evaluation failed.
    """
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    files = (
        {kind: str((data.folder / kind / f"{case}.nii.gz").resolve()) for kind in ("images", "labels")}
        for case in cases
    )
    listed = [{"image": file["images"], "label": file["labels"], "dataset": data.name} for file in files]
    manifest = out.with_name(f"{out.name}.json")
    manifest.write_text(json.dumps({"cases": listed}, indent=1) + "\n", encoding="utf-8")
    command = [*EVALUATE, "--manifest", str(manifest), "--preset", data.preset, "--out", str(out)]
    command += ["--modes", ",".join(MODES), "--seeds", "42", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY)  # the summary is read from its file
    return dict(json.loads((out / "summary.json").read_text(encoding="utf-8")))


def of_mode(summary: Mapping[str, Any], mode: str) -> Mapping[str, Any]:
    """The figures of one kind of first click."""
    found: Mapping[str, Any] = summary if summary["mode"] == mode else summary["modes"][mode]
    return found


def dice_at(figures: Mapping[str, Any], key: str = "dice_at", name: str = "Dice") -> dict[str, Value]:
    """A score after 1, 3, 5 and 10 clicks, with its interval."""
    return {f"{name} at {clicks}": interval(figures[key][clicks]) for clicks in CLICKS if clicks in figures[key]}


def figures_row(figures: Mapping[str, Any]) -> dict[str, Value]:
    """All figures of one kind of first click."""
    return {
        **dice_at(figures),
        **dice_at(figures, "nsd2_at", "NSD 2 mm"),
        "DSC_AUC": interval(figures["dsc_auc"], 2),
        "clicks to Dice 0.85": round(figures["noc85"]["mean"], 1),
        "never reached": round(figures["failure85"]["mean"], 2),
        "drop rate": round(figures["drop_rate"]["mean"], 2),
        "far change": interval(figures["far_change"] | {"low": None}),
        "obeyed by the network": round(figures["obeyed_before"]["mean"], 2),
        "first click s": figures["first_click_s"]["p50"] and round(figures["first_click_s"]["p50"], 2),
        "further click s": figures["next_click_s"]["p50"] and round(figures["next_click_s"]["p50"], 2),
    }


def unsure(records: Sequence[Mapping[str, Any]]) -> dict[str, Value]:
    """How often the first answer was warned of as unsure, and its Dice then.

    Args:
        records: Of interactions, as an evaluation writes them.
    """
    warned = [record["dice"][0] for record in records if "unsure" in record["warned"][0]]
    return {
        "unsure at 1": round(len(warned) / len(records), 2),
        "Dice at 1 where unsure": round(sum(warned) / len(warned), 2) if warned else None,
    }


def rows(data: Data, summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """The model and the image-free baselines by first click."""
    for mode in MODES:
        figures = of_mode(summary, mode)
        own = {"data": data.name, "first click": mode}
        counts = {"n": figures["n"], "objects": figures["cases"]}
        said = unsure([record for record in records if record["mode"] == mode])
        yield {**own, "method": "sam3d_adapter", **counts, **figures_row(figures), **said}
        yield from baseline_rows(own, figures)


def baseline_rows(own: Row, figures: Mapping[str, Any]) -> Iterator[Row]:
    """The image-free baselines, those that take no click once.

    Args:
        own: What the row of the model says of data and first click.
        figures: Of the model, with the baselines beside them.
    """
    for key, name in BASELINES.items():
        scores = dice_at((figures["blind"] or {}).get(key, {"dice_at": {}}))
        if scores and key == "ball":
            yield {**own, "method": name, **scores}
        elif scores and own["first click"] == MODES[0]:
            yield {**own, "first click": "none", "method": name, "Dice at 1": scores["Dice at 1"]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", type=Data.parse, required=True, help="NAME=PRESET=FOLDER")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", type=Path, help="names of the cases that are clicked on, one a line")
    chosen.add_argument("--every", type=int, default=1, help="click on every Nth case")
    parser.add_argument(
        "--labels-are-objects", action="store_true", help="each value of a label is an object of its own"
    )
    parser.add_argument("--seeds", default="42", help="of the random first clicks, such as 42,43")
    parser.add_argument("--out", type=Path, required=True)
    add_option(parser)
    arguments = parser.parse_args()
    options = ["--version", "shipped", "--seeds", arguments.seeds]
    options += ["--labels-are-objects"] * arguments.labels_are_objects
    only = set(arguments.only.read_text(encoding="utf-8").split()) if arguments.only else None

    def measured() -> Iterator[Row]:
        for data in arguments.data:
            cases = [case for case in data.cases()[:: arguments.every] if only is None or case in only]
            out = arguments.out / data.name
            summary = evaluate(data, cases, out, *options)
            yield from rows(data, summary, read_records(out))

    report(measured(), "patients and objects in the table", arguments.result)


if __name__ == "__main__":
    main()
