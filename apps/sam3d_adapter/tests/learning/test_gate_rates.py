"""The simulation behind docs/gate.md decides as the gate does, and shows what the page says."""

import numpy as np
import pytest

from benchmarks.gate_rates import MEANS, RULES, SHARES, chain, deviations, low_ends, passes, rates
from lib.evaluation.statistics import interval
from lib.learning.gate import decide


def test_ends_of_intervals_are_those_of_the_protocol() -> None:
    values = np.random.default_rng(2).normal(0, 0.05, (9, 4))
    expected = [interval({f"{p:02}": float(v) for p, v in enumerate(column)})["low"] for column in values.T]
    np.testing.assert_allclose(low_ends(values), expected, atol=1e-12)


def test_decisions_are_those_of_the_gate() -> None:
    rng = np.random.default_rng(0)
    versions = {name: 0.7 + deviations(rng, 0.2, (8, 12)) for name in ("served", "best")}
    versions["new"] = versions["served"] + rng.uniform(-0.01, 0.03, 12)[:, None] + rng.normal(0, 0.01, (8, 12, 3))
    versions["best"] = versions["served"] + rng.normal(0, 0.01, (8, 12, 3))
    made_up = passes(RULES[-1], versions["new"] - versions["served"], versions["new"] - versions["best"])
    gates = [
        decide(*([record(name, p, versions[name][p, s]) for p in range(8)] for name in ("new", "served", "best")))
        for s in range(12)
    ]
    assert made_up.tolist() == [decision.publish for decision in gates]
    assert 0 < made_up.sum() < 12


def record(version: str, patient: int, scores: np.ndarray) -> dict:
    """With these three scores of the gate."""
    dice, dsc, nsd = scores.tolist()
    return {
        "case": str(patient), "patient": str(patient), "dataset": "site", "data_sha256": "", "mode": "centre",
        "seed": 42, "model": {"id": version, "sha256": version}, "dice": [dice], "nsd2": [dice],
        "dsc_auc": 4 * dsc, "nsd_auc": 4 * nsd,
    }  # fmt: skip


@pytest.mark.parametrize("n", [8, 32])
def test_worse_models_stay_out_and_better_ones_need_patients(n: int) -> None:
    for share in SHARES:
        gate = dict(zip(MEANS, rates(n, share, 300)["the gate"], strict=True))
        assert max(gate[-0.05], gate[-0.03], gate[-0.02]) <= 0.01 and gate[-0.01] <= 0.025
        assert list(gate.values()) == sorted(gate.values())
    assert rates(32, 0.5, 300)["the gate"][-1] > 0.95 > 0.6 > rates(8, 1.0, 300)["the gate"][-1]


def test_small_losses_add_up_against_the_served_version_alone() -> None:
    ends = {rule.name: chain(rule, -0.005, 0.1, 16, 12)[0][-1] for rule in RULES}
    assert ends["served alone"].mean() < -0.03
    assert ends["served and best"].min() >= -0.02 and ends["the gate"].mean() >= -0.01


def test_gains_add_up_all_the_same() -> None:
    path, publishes = chain(RULES[-1], 0.005, 0.1, 16, 8)
    assert path[-1].mean() > 0.05 and publishes.mean() > 12
