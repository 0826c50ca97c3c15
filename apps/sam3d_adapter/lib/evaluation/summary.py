"""From the records of a run to its figures."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from lib.evaluation.metrics import AUC_CLICKS, NOC_TARGETS
from lib.evaluation.record import Record
from lib.evaluation.simulated_user import clicks_at_once
from lib.evaluation.statistics import Interval, by_patient, interval, percentiles

CLICKS_SHOWN = (1, 3, 5, 10)
MAIN_MODE = "centre"
_LARGEST_AUC = AUC_CLICKS - 1

Value = Callable[[Record], float | None]


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """The figures of a run: those of mode ``centre`` (or else of the first) beside ``modes`` with the others.

    Args:
        records: in the order of the modes; at least one.
    """
    modes = list(dict.fromkeys(record["mode"] for record in records))
    main = MAIN_MODE if MAIN_MODE in modes else modes[0]
    own = {mode: [record for record in records if record["mode"] == mode] for mode in modes}
    summary = {"mode": main, **summarise_mode(own[main])}
    summary["modes"] = {mode: summarise_mode(some) for mode, some in own.items() if mode != main}
    datasets = sorted({record["dataset"] for record in records})
    if len(datasets) > 1:
        of = {name: [record for record in own[main] if record["dataset"] == name] for name in datasets}
        summary["datasets"] = {name: summarise_mode(some) for name, some in of.items()}
    summary["latency_ms"]["cold_start"] = percentiles(time for record in records for time in record["cold_start_ms"])
    summary["peak_memory_mib"] = _peaks(records)
    return summary


def summarise_mode(records: Sequence[Record]) -> dict[str, Any]:
    """The figures of one mode; every metric as mean over patients, with ``low``, ``high`` and ``n``."""
    curves = clicks_at_once(records[0]["mode"]) is None
    summary: dict[str, Any] = {
        "n": len({record["patient"] for record in records}),
        "cases": len({record["case"] for record in records}),
        "seeds": sorted({record["seed"] for record in records}),
        "failed_cases": sorted({record["case"] for record in records if any(record["failed"])}),
    }
    for key in ("dice", "nsd2", "nsd5"):
        summary[f"{key}_at"] = at_clicks(records, pick(key))
    if curves:
        summary |= _curve_figures(records)
    for key in ("obeyed", "obeyed_before"):
        summary[key] = over_patients(records, pick(key, -1))
        summary[f"{key}_at"] = at_clicks(records, pick(key))
    summary["on_other_label"] = over_patients(records, pick("on_other_label"))
    summary["withdrawn_clicks"] = sum(record["withdrawn"] for record in records)
    summary |= _latencies(records)
    summary["blind"] = _blind(records)
    return summary


def pick(*keys: str | int) -> Callable[[Record], Any]:
    """What lies in a record under one key within the other."""

    def picked(record: Record) -> Any:
        return functools.reduce(lambda inner, key: inner[key], keys, cast(Any, record))

    return picked


def over_patients(records: Iterable[Record], value: Value) -> Interval:
    """Mean and interval of a value of each record, averaged within each patient first."""
    return interval(by_patient((record["patient"], value(record)) for record in records))


def at_clicks(records: Sequence[Record], scores: Callable[[Record], Sequence[float]]) -> dict[str, Interval]:
    """A score after 1, 3, 5 and 10 clicks, by number of clicks."""
    at_once = clicks_at_once(records[0]["mode"])
    if at_once is not None:
        return {str(at_once): over_patients(records, _at(scores, 0))}
    last = len(scores(records[0]))
    shown = [clicks for clicks in CLICKS_SHOWN if clicks <= last]
    return {str(clicks): over_patients(records, _at(scores, clicks - 1)) for clicks in shown}


def mean_curve(records: Sequence[Record], scores: Callable[[Record], Sequence[float]]) -> list[Interval]:
    """A score after every click."""
    steps = len(scores(records[0]))
    return [over_patients(records, _at(scores, step)) for step in range(steps)]


def _curve_figures(records: Sequence[Record]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for key in ("dsc_auc", "nsd_auc"):
        figures[key] = over_patients(records, pick(key))
        figures[f"{key}_normalised"] = over_patients(records, _normalised(key))
        figures[f"{key}_all_clicks"] = over_patients(records, pick(f"{key}_all"))
    for target in map(str, NOC_TARGETS):
        reached = pick("noc", target)
        figures[f"noc{target}"] = over_patients(records, _capped(reached))
        figures[f"failure{target}"] = over_patients(records, _is_none(reached))
    for key in ("drop_rate", "large_drop_rate"):
        figures[key] = over_patients(records, pick(key))
    for key, name in (
        ("far_change_mean", "far_change"),
        ("far_change_rate", "far_change_rate"),
    ):
        figures[name] = over_patients(records, _if_known(key))
    return figures


def _latencies(records: Sequence[Record]) -> dict[str, Any]:
    """Times of requests that did not fail; those of each process's warm-up are not among them."""
    times: dict[str, list[float]] = {"encode": [], "click": [], "first": [], "next": []}
    further = re_encoded = 0
    for record in records:
        times["encode"] += _known([record["encode_ms"], *record["re_encode_ms"]])
        times["click"] += _known(record["click_ms"])
        good = [None if failed else ms for ms, failed in zip(record["request_ms"], record["failed"], strict=True)]
        times["first"] += _known(good[:1])
        times["next"] += _known(good[1:])
        further += len(_known(record["request_ms"][1:]))
        re_encoded += sum(record["re_encoded"])
    seconds = {name: percentiles(ms / 1000 for ms in times[name]) for name in ("first", "next")}
    return {
        "first_click_s": seconds["first"],
        "next_click_s": seconds["next"],
        "latency_ms": {
            "encode": percentiles(times["encode"]),
            "click": percentiles(times["click"]),
            "request": percentiles(times["first"] + times["next"]),
        },
        "re_encoded": re_encoded / further if further else None,
        "encodes": _encodes(records),
    }


def _encodes(records: Sequence[Record]) -> dict[str, dict[str, float]] | None:
    """Image encoder passes of first and of further requests; None of records from before they were counted."""
    if any("encodes" not in record for record in records):
        return None
    kinds = {"first": [r["encodes"][0] for r in records], "next": [n for r in records for n in r["encodes"][1:]]}
    return {name: {"mean": float(np.mean(n)), "most": int(np.max(n))} for name, n in kinds.items() if n}


def _blind(records: Sequence[Record]) -> dict[str, Any] | None:
    if any("blind" not in record for record in records):
        return None
    figures: dict[str, Any] = {}
    for name, scores in records[0]["blind"].items():
        if isinstance(scores, list):
            figures[name] = {"dice_at": at_clicks(records, pick("blind", name))}
            continue
        # Without clicks it is the same at every number of them.
        value = over_patients(records, pick("blind", name))
        figures[name] = {"dice_at": {clicks: value for clicks in at_clicks(records, pick("dice"))}}
    return figures


def _peaks(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = sorted({name for record in records for name in record["peak_memory_mib"]})
    return {name: float(np.max([r["peak_memory_mib"].get(name, 0.0) for r in records])) for name in names}


def _known(times: Iterable[float | None]) -> list[float]:
    return [time for time in times if time is not None]


def _at(scores: Callable[[Record], Sequence[float]], step: int) -> Value:
    return lambda record: scores(record)[step]


def _normalised(key: str) -> Value:
    return lambda record: record[key] / _LARGEST_AUC


def _if_known(key: str) -> Value:
    """None of records from before it was measured."""
    return lambda record: record.get(key)


def _capped(reached: Callable[[Record], int | None]) -> Value:
    return lambda record: reached(record) or len(record["dice"])


def _is_none(reached: Callable[[Record], int | None]) -> Value:
    return lambda record: float(reached(record) is None)
