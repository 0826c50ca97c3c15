"""From cases to patients, and from patients to a mean with its confidence interval."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 42

Interval = dict[str, Any]


def by_patient(values: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """The mean of each patient's values, in alphabetical order of patients.

    Args:
        values: patient and value of each case and seed; None, which does not count, where a case has none.
    """
    gathered: dict[str, list[float]] = {}
    for patient, value in values:
        if value is not None:
            gathered.setdefault(patient, []).append(float(value))
    # Sorted, because the bootstrap draws by position and sums round by order.
    return {patient: float(np.mean(sorted(gathered[patient]))) for patient in sorted(gathered)}


def interval(patients: Mapping[str, float]) -> Interval:
    """Mean over patients with its 95 % percentile bootstrap interval.

    Returns:
        ``mean``, ``low``, ``high`` and ``n``, the number of patients; no interval for fewer than two, no mean for none.
    """
    values = np.array(list(patients.values()))
    if len(values) < 2:
        mean = float(values[0]) if len(values) else None
        return {"mean": mean, "low": None, "high": None, "n": len(values)}
    # scipy's default would be another method, BCa.
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return {"mean": float(values.mean()), "low": float(found.low), "high": float(found.high), "n": len(values)}


def difference(one: Mapping[str, float], other: Mapping[str, float]) -> Interval:
    """Mean of one group of patients minus that of another, with its 95 % percentile bootstrap interval.

    Returns:
        ``mean``, ``low`` and ``high``; no interval where a group has fewer than two patients.

    Raises:
        ValueError: a group is empty.
    """
    if not one or not other:
        raise ValueError(f"The groups have {len(one)} and {len(other)} patients; at least one in each is expected.")
    groups = np.array(list(one.values())), np.array(list(other.values()))
    mean = float(groups[0].mean() - groups[1].mean())
    if min(map(len, groups)) < 2:
        return {"mean": mean, "low": None, "high": None}
    found = bootstrap(
        groups,
        lambda first, second, axis: first.mean(axis=axis) - second.mean(axis=axis),
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return {"mean": mean, "low": float(found.low), "high": float(found.high)}


def percentiles(samples: Iterable[float]) -> Interval:
    """``p50``, ``p95`` and ``n`` of latencies, in the unit of the samples; None where there are none."""
    values = np.array(list(samples), dtype=float)
    if not len(values):
        return {"p50": None, "p95": None, "n": 0}
    p50, p95 = (float(value) for value in np.percentile(values, [50, 95]))
    return {"p50": p50, "p95": p95, "n": len(values)}
