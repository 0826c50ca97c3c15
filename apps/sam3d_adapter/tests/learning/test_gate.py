"""A candidate gets through only where it is shown to be no worse than the served version and the best one."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lib.evaluation.compare import CompareError
from lib.evaluation.metrics import auc
from lib.learning.gate import MIN_PATIENTS, Decision, decide

Record = dict[str, Any]


def records(
    version: str, dice: Sequence[float], *, dataset: str = "site", mode: str = "centre", late: float = 0.0
) -> list[Record]:
    """One record a patient, its Dice the same after every click but for what the clicks after the first add."""
    curves = [[one, *[one + late] * 9] for one in dice]
    return [
        {
            "case": f"{dataset}/{number}",
            "patient": f"{dataset}/p{number}",
            "dataset": dataset,
            "data_sha256": str(number),
            "mode": mode,
            "seed": 42,
            "model": {"id": version, "sha256": version},
            "dice": curve,
            "nsd2": curve,
            "dsc_auc": auc(curve),
            "nsd_auc": auc(curve),
        }
        for number, curve in enumerate(curves)
    ]


def spread(shift: float, sd: float, n: int = 16) -> list[float]:
    """Scores around 0.7, shifted, with differences from patient to patient of exactly this standard deviation."""
    noise = np.random.default_rng(5).normal(size=n)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return (0.7 + shift + sd * noise).tolist()


FLAT = [0.7] * 16


@pytest.mark.parametrize(
    ("shift", "sd", "publish"),
    [(0.03, 0.02, True), (0.0, 0.01, True), (0.03, 0.2, False), (-0.03, 0.01, False), (-0.005, 0.001, False)],
)
def test_no_worse_than_the_served_model(shift: float, sd: float, publish: bool) -> None:
    decision = decide(records("new", spread(shift, sd)), records("now", FLAT))
    assert decision.publish is publish, decision.reasons
    assert decision.is_new_best is (publish and shift > 0)
    assert decision.n_patients == 16 and {one.other for one in decision.differences} == {"served"}
    assert all(one.mean == pytest.approx(shift, abs=1e-9) for one in decision.differences)


def test_the_rule_is_that_of_the_protocol_and_one_more() -> None:
    # -0.005 everywhere is within the margin, and yet measured worse: the one thing asked for beyond the margin.
    decision = decide(records("new", [0.695] * 16), records("now", FLAT))
    assert all(one.passed for one in decision.differences) and not decision.publish
    assert "no reason to change" in decision.reasons[1]
    # A little worse at the first click is allowed, where the clicks after it make up for it.
    assert decide(records("new", [0.695] * 16, late=0.02), records("now", FLAT)).publish
    assert not decide(records("new", [0.685] * 16, late=0.02), records("now", FLAT)).publish


def test_small_losses_do_not_add_up() -> None:
    served, best = records("now", [0.692] * 16), records("best", [0.71] * 16)
    candidate = records("new", [0.695] * 16)
    assert decide(candidate, served).publish
    decision = decide(candidate, served, best)
    assert not decision.publish and any("the best model so far" in reason for reason in decision.reasons)
    # Within the margin of the best, and better than the served one.
    near = decide(records("new", [0.705] * 16), served, best)
    assert near.publish and not near.is_new_best
    assert decide(records("new", [0.72] * 16), served, best).is_new_best


def test_the_best_may_be_the_served_one() -> None:
    served = records("now", FLAT)
    assert decide(records("new", spread(0.03, 0.02)), served, served) == decide(
        records("new", spread(0.03, 0.02)), served
    )


@pytest.mark.parametrize("n", [1, 2, MIN_PATIENTS - 1, MIN_PATIENTS])
def test_too_few_patients(n: int) -> None:
    decision = decide(records("new", [0.9] * n), records("now", [0.5] * n))
    assert decision.publish is (n >= MIN_PATIENTS) and decision.n_patients == n
    assert n >= MIN_PATIENTS or f"labels of {n} validation patient" in decision.reasons[1]
    json.dumps(decision.as_json(), allow_nan=False)


def test_every_dataset_and_mode_counts() -> None:
    def both(version: str, ct: float, mr: float, mode: str = "centre") -> list[Record]:
        return records(version, [ct] * 9, dataset="ct", mode=mode) + records(
            version, [mr] * 12, dataset="mr", mode=mode
        )

    assert decide(both("new", 0.8, 0.8), both("now", 0.7, 0.7)).n_patients == 9
    decision = decide(both("new", 0.9, 0.6), both("now", 0.7, 0.7))
    assert not decision.publish and "(mr)" in decision.reasons[1] and "ct" not in " ".join(decision.reasons)
    modes = [
        both("new", 0.8, 0.8) + both("new", 0.6, 0.6, "random"),
        both("now", 0.7, 0.7) + both("now", 0.7, 0.7, "random"),
    ]
    assert not decide(*modes).publish


def of_structures(version: str, *, organ: float, tumour: float, n: int = 4, late: float = 0.0) -> list[Record]:
    """Twenty organs, and some tumours of other patients."""
    organs, tumours = records(version, [organ] * 20), records(version, [tumour] * n, late=late)
    return organs + [{**one, "case": f"t{one['case']}", "patient": f"t{one['patient']}"} for one in tumours]


STRUCTURES = {f"site/{number}": "organ" for number in range(20)} | {f"tsite/{number}": "tumour" for number in range(20)}


def test_what_one_structure_gains_does_not_pay_for_what_another_one_loses() -> None:
    def decided(tumour: float, *, n: int = 4, late: float = 0.0, structures: dict[str, str] = STRUCTURES) -> Decision:
        candidate = of_structures("new", organ=0.75, tumour=tumour, n=n, late=late)
        return decide(candidate, of_structures("now", organ=0.7, tumour=0.7, n=n), structures=structures)

    kept = decided(0.67)
    assert kept.publish and {(one.dataset, one.n_patients) for one in kept.guarded} == {("organ", 20), ("tumour", 4)}
    assert "'organ' +0.050 (20 patients); 'tumour' -0.030 (4 patients)" in kept.reasons[-1]
    lost = decided(0.65)
    assert not lost.publish and not lost.is_new_best
    assert "Of 'tumour', 4 patients, its Dice after one click is 0.050 lower than that of the served" in lost.reasons[1]
    assert not decided(0.65, late=0.1).publish, "the first click counts by itself"
    # Too few to tell, or nobody knows which is which, or all are one: as before.
    for other in (decided(0.65, n=3), decided(0.65, structures={}), decided(0.65, structures={"site/0": "organ"})):
        assert other.publish and not any(one.dataset == "tumour" for one in other.guarded)
    json.dumps(lost.as_json(), allow_nan=False)


def test_losses_of_a_structure_do_not_add_up() -> None:
    served, best = (of_structures(name, organ=0.7, tumour=tumour) for name, tumour in (("now", 0.68), ("best", 0.7)))
    candidate = of_structures("new", organ=0.75, tumour=0.66)
    assert decide(candidate, served, structures=STRUCTURES).publish
    decision = decide(candidate, served, best, STRUCTURES)
    assert not decision.publish and "Of 'tumour'" in decision.reasons[1] and "best model so far" in decision.reasons[1]


def test_the_same_weights_are_not_published_again() -> None:
    decision = decide(records("now", FLAT), records("now", FLAT))
    assert not decision.publish and "same weights" in decision.reasons[1]


def test_clicks_given_at_once_have_no_part() -> None:
    paper = [{k: v for k, v in one.items() if not k.endswith("_auc")} for one in records("new", FLAT, mode="paper-3")]
    others = [{**one, "model": {"id": "now", "sha256": "now"}} for one in paper]
    assert decide(records("new", FLAT) + paper, records("now", FLAT) + others).publish
    with pytest.raises(CompareError):
        decide(paper, others)


def test_other_cases_are_not_compared() -> None:
    with pytest.raises(CompareError, match="different cases"):
        decide(records("new", FLAT), records("now", FLAT[:-1]))
    with pytest.raises(CompareError, match="different cases"):
        decide(records("new", FLAT), records("now", FLAT), records("best", FLAT[:-1]))


@pytest.mark.filterwarnings("ignore:The BCa confidence interval")  # scipy's words for no interval of any kind
def test_a_score_that_is_no_number_is_refused() -> None:
    decision = decide(records("new", [float("nan"), *FLAT[1:]]), records("now", FLAT))
    assert not decision.publish and "could not be compared" in decision.reasons[1]
    json.dumps(decision.as_json(), allow_nan=False)


def test_it_is_written_as_json() -> None:
    decision: Decision = decide(records("new", spread(0.03, 0.02)), records("now", FLAT))
    held = json.loads(json.dumps(decision.as_json(), allow_nan=False))
    assert held == decision.as_json() and held["differences"][0]["metric"] == "dice_1"
    assert "higher in" in held["reasons"][1] and all(reason.endswith(".") for reason in held["reasons"])


def test_labels_that_no_model_can_follow_publish_nothing():
    """On labels drawn at random every model is poor, and the poorer one easily beaten."""
    served, candidate = (records(name, [dice] * 12) for name, dice in (("served", 0.05), ("new", 0.2)))
    decision = decide(candidate, served)
    assert not decision.publish and not decision.is_new_best
    assert any("labels and images hardly belong together" in reason for reason in decision.reasons)
    good = decide(records("new", [0.7] * 12), records("served", [0.3] * 12))
    assert good.publish
