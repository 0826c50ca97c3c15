"""Two models on the same cases: which is better, and whether one may take the other's place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.evaluation.ledger import key_of, read_records, read_settings
from lib.evaluation.metrics import AUC_CLICKS
from lib.evaluation.record import Record
from lib.evaluation.simulated_user import clicks_at_once
from lib.evaluation.statistics import by_patient, interval

MARGIN = 0.01
"""By how much a candidate may be worse and still take the other's place."""
GATES = ("dice_1", "dsc_auc_normalised", "nsd_auc_normalised")
_PROTOCOL = "protocol"


class CompareError(ValueError):
    """Two runs that cannot be compared, and why."""


def compare(first: Path, second: Path) -> dict[str, Any]:
    """The differences of two finished runs, first minus second, by dataset and mode.

    Args:
        first: folder of the run of the candidate.
        second: folder of the run of the model that is there.

    Returns:
        ``models``; ``datasets``: by name, then by mode: each metric's difference with its interval, ``share_better`` of
        patients, ``verdict``, and, where the mode has them, ``non_inferior``.

    Raises:
        CompareError: other cases, files, modes, seeds or protocol.
        LedgerError: a folder that holds no run.
    """
    runs = [read_records(folder) for folder in (first, second)]
    protocols = [read_settings(folder).get(_PROTOCOL) for folder in (first, second)]
    if protocols[0] != protocols[1]:
        raise CompareError(f"The runs follow different protocols: {protocols[0]} and {protocols[1]}.")
    return compare_records(*runs)


def compare_records(first: Sequence[Record], second: Sequence[Record]) -> dict[str, Any]:
    """As ``compare``, of records in memory, which are taken to follow one protocol.

    Args:
        first: of the candidate, in any order.
        second: of the model that is there.

    Raises:
        CompareError: other cases, files, modes or seeds.
    """
    _require_same(first, second)
    paired = list(zip(*(sorted(records, key=key_of) for records in (first, second)), strict=True))
    result: dict[str, Any] = {"models": [first[0]["model"], second[0]["model"]], "datasets": {}}
    for dataset in sorted({one["dataset"] for one, _ in paired}):
        modes: dict[str, Any] = {}
        for mode in dict.fromkeys(record["mode"] for record in first):
            pairs = [pair for pair in paired if (pair[0]["dataset"], pair[0]["mode"]) == (dataset, mode)]
            if pairs:
                modes[mode] = _differences(pairs, mode)
        result["datasets"][dataset] = modes
    return result


def sentences(result: Mapping[str, Any]) -> list[str]:
    """One line for each dataset and mode."""
    lines = []
    for dataset, modes in result["datasets"].items():
        for mode, found in modes.items():
            parts = [
                f"{name} {d['mean']:+.4f} [{_signed(d['low'])}, {_signed(d['high'])}] ({d['verdict']})"
                for name, d in found["differences"].items()
                if name in (*GATES, "dice_last")
            ]
            gate = found.get("non_inferior")
            verdict = "" if gate is None else ("non-inferior: " if gate else "NOT shown non-inferior: ")
            lines.append(f"{dataset}, {mode}, {found['n']} patients: {verdict}{'; '.join(parts)}")
    return lines


def _require_same(first: Sequence[Record], second: Sequence[Record]) -> None:
    if not first or not second:
        raise CompareError("A run without a finished case cannot be compared.")
    for what, of in (
        ("cases", lambda record: record["case"]),
        ("modes", lambda record: record["mode"]),
        ("seeds", lambda record: record["seed"]),
        ("numbers of clicks", lambda record: len(record["dice"])),
        ("interactions", key_of),
        ("patients or datasets", lambda record: (record["case"], record["patient"], record["dataset"])),
        ("images or labels", lambda record: (record["case"], record["data_sha256"])),
    ):
        one, other = ({of(record) for record in records} for records in (first, second))
        if one != other:
            odd = sorted(map(str, one ^ other))
            raise CompareError(f"The runs have different {what}: {len(odd)} stand in one alone, such as {odd[0]}.")


def _differences(pairs: Sequence[tuple[Record, Record]], mode: str) -> dict[str, Any]:
    found = {}
    for name in _metrics(pairs[0][0]):
        by = by_patient((one["patient"], _value(one, name) - _value(other, name)) for one, other in pairs)
        values = np.array(list(by.values()))
        found[name] = {**interval(by), "share_better": float(np.mean(values > 0))}
        found[name]["verdict"] = _verdict(found[name])
    result: dict[str, Any] = {"n": len({one["patient"] for one, _ in pairs}), "differences": found}
    if clicks_at_once(mode) is None:
        # Without an interval, of one patient alone, nothing is shown.
        result["non_inferior"] = all(found[name]["low"] is not None and found[name]["low"] >= -MARGIN for name in GATES)
    return result


def _metrics(record: Record) -> list[str]:
    names = ["dice_1", "dice_last", "nsd2_1", "nsd2_last"]
    return [*names, *GATES[1:]] if "dsc_auc" in record else names


def _value(record: Record, name: str) -> float:
    if name.endswith("_normalised"):
        return float(record[name.removesuffix("_normalised")]) / (AUC_CLICKS - 1)
    key, _, at = name.rpartition("_")
    return float(record[key][-1 if at == "last" else 0])


def _verdict(difference: Mapping[str, Any]) -> str:
    if difference["low"] is None:
        return "not shown"
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "no difference shown"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
