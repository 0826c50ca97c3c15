"""Patients are the unit; the interval is a percentile bootstrap."""

import numpy as np
import pytest

from lib.evaluation.statistics import by_patient, interval, percentiles


def test_a_patient_counts_once() -> None:
    values = [("b", 1.0), ("a", 0.2), ("a", 0.4), ("a", 0.9), ("c", None)]
    assert by_patient(values) == {"a": pytest.approx(0.5), "b": 1.0}
    assert list(by_patient(values)) == ["a", "b"] and by_patient(values) == by_patient(reversed(values))


def test_the_interval_is_that_of_resampled_patients() -> None:
    values = np.random.default_rng(1).random(25)
    found = interval({f"{number:02}": float(value) for number, value in enumerate(values)})
    own = np.random.default_rng(7)
    means = [own.choice(values, len(values)).mean() for _ in range(10_000)]
    assert found["mean"] == pytest.approx(values.mean()) and found["n"] == 25
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(means, [2.5, 97.5]).tolist(), abs=0.005)


def test_what_too_few_patients_give() -> None:
    assert interval({}) == {"mean": None, "low": None, "high": None, "n": 0}
    assert interval({"a": 0.5}) == {"mean": 0.5, "low": None, "high": None, "n": 1}
    same = interval({"a": 0.5, "b": 0.5})
    assert (same["low"], same["high"]) == (0.5, 0.5)


def test_percentiles() -> None:
    assert percentiles(range(101)) == {"p50": 50.0, "p95": 95.0, "n": 101}
    assert percentiles([]) == {"p50": None, "p95": None, "n": 0}
