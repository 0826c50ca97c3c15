"""Result files: the rows that a benchmark measured, with its command, commit, date and machine.

A value is a number, a text, or a list of mean and both ends of its 95 % interval. It is shown with its own decimals.
"""

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(__file__).with_name("results")

Value = float | str | None | list[float]  # a list: mean, low, high
Row = Mapping[str, Value]


class Result(NamedTuple):
    """One file of `FOLDER`.

    Attributes:
        command: What gives these rows.
        commit: Of the code that was measured; ends in "+" where the checkout had changes.
        date: Of the measurement, YYYY-MM-DD.
        hardware: What computed.
        n: Number of patients, phantoms or runs, in words.
        rows: What was measured; all rows have the same meaning of a key.
        note: What a reader must know besides.
    """

    command: str
    commit: str
    date: str
    hardware: str
    n: str
    rows: list[Row]
    note: str = ""


def add_option(parser: argparse.ArgumentParser, tables: Sequence[str] = ()) -> None:
    """Let a benchmark take ``--result``: a file, or a folder where it measures several tables.

    Args:
        parser: Of the benchmark.
        tables: Names of the files in the folder.
    """
    what = f"folder that takes {', '.join(f'{name}.json' for name in tables)}" if tables else "result file to write"
    parser.add_argument("--result", type=Path, help=f"{what}, for BENCHMARKS.md; in or below benchmarks/results")


def report(rows: Iterable[Row], n: str, path: Path | None) -> list[Row]:
    """Print the rows, each on stderr when it is there and all as a table on stdout, and write a result file.

    Args:
        rows: What is measured.
        n: See `Result`.
        path: The file; None for none.
    """
    found = []
    for row in rows:
        found.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    print(markdown(found))
    if path is not None:
        today = datetime.now(UTC).date().isoformat()
        save(path, Result(_command(), _commit(), today, _hardware(), n, found))
    return found


def save(path: Path, result: Result) -> None:
    """Write a result file, one line a row."""
    head, rows = result._asdict(), result.rows
    del head["rows"]
    if not result.note:
        del head["note"]
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    lines += [' "rows": [', ",\n".join(f"  {json.dumps(row)}" for row in rows), " ]"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["{", *lines, "}", ""]), encoding="utf-8")


def load(name: str) -> Result:
    """The result file of this name."""
    return Result(**json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def interval(found: Mapping[str, Any], digits: int = 3) -> Value:
    """Mean and interval as `lib.evaluation.statistics` gives them, rounded; the mean alone where there is none."""
    if found["mean"] is None:
        return None
    if found["low"] is None:
        return round(found["mean"], digits)
    return [round(found[key], digits) for key in ("mean", "low", "high")]


def markdown(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """A table with one number a cell; an interval has a column of its own.

    Args:
        rows: What is shown.
        columns: Those that are shown, of rows that have a number in them; all without.
    """
    if columns:
        rows = [row for row in rows if any(isinstance(row.get(column), int | float | list) for column in columns)]
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    shown: list[tuple[str, list[str]]] = []
    for column in columns:
        values = [row.get(column) for row in rows]
        shown.append((column, [text(value, values) for value in values]))
        if any(isinstance(value, list) for value in values):
            shown.append(("95 % interval", [bounds(value, values) for value in values]))
    lines = [[name for name, _ in shown], ["---"] * len(shown), *zip(*(cells for _, cells in shown), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(value: Value, values: Sequence[Value]) -> str:
    """A value with as many decimals as the others of its column; differences, some of them negative, with a sign."""
    mean = value[0] if isinstance(value, list) else value
    if mean is None or isinstance(mean, str):
        return mean or ""
    means = [v[0] if isinstance(v, list) else v for v in values]
    return _number(mean, [v for v in means if isinstance(v, int | float)])


def bounds(value: Value, values: Sequence[Value]) -> str:
    """The interval of a value, with as many decimals as the others of its column."""
    if not isinstance(value, list):
        return ""
    ends = [end for v in values if isinstance(v, list) for end in v[1:]]
    low, high = (_number(end, ends) for end in value[1:])
    return f"{low} to {high}" if min(ends) < 0 else f"{low}-{high}"


def _number(value: float, others: Sequence[float]) -> str:
    decimals = max(max(0, -int(Decimal(repr(other)).as_tuple().exponent)) for other in others)
    return f"{value:{'+' if min(others) < 0 else ''},.{decimals}f}"


def _command() -> str:
    """The command line; folders outside of the repository are named by their last part, in capitals."""
    spec = sys.modules["__main__"].__spec__
    arguments = [*sys.argv[1:]]
    if "--result" in arguments:
        at = arguments.index("--result")
        del arguments[at : at + 2]
    arguments = [
        re.sub(r"/[^:=,]+", lambda found: Path(found.group()).name.upper(), argument)
        if "=/" in f"={argument}"
        else argument
        for argument in arguments
    ]
    return shlex.join(["python", "-m", spec.name if spec else "benchmarks", *arguments])


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _hardware() -> str:
    kind = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        names = re.findall(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE)
        kind = names[0] if names else kind
    cores = len(os.sched_getaffinity(0))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{kind} ({torch.backends.cpu.get_cpu_capability()}), {cores} cores, {gpu}, PyTorch {torch.__version__}"
