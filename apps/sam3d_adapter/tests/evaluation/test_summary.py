"""Figures, tables, curves and comparisons of records that were made up."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from lib.evaluation.compare import CompareError, compare, sentences
from lib.evaluation.ledger import CASES, SETTINGS, write_json
from lib.evaluation.metrics import auc, counted_nsd, drops, normalised_auc, number_of_clicks
from lib.evaluation.record import Record
from lib.evaluation.report import write_report
from lib.evaluation.summary import summarise


def record(case: str, dice: list[float], *, patient: str | None = None, mode: str = "centre", seed: int = 42) -> Record:
    nsd = [score / 2 for score in dice]
    clicked = [True] * len(dice)
    return {
        "case": case,
        "patient": patient or case,
        "dataset": "made_up",
        "data_sha256": f"of {case}",
        "mode": mode,
        "seed": seed,
        "model": {"id": "test", "sha256": "0"},
        "on_other_label": 0.0,
        "withdrawn": 0,
        "dice": dice,
        "nsd2": nsd,
        "nsd5": dice,
        "dsc_auc": auc(dice),
        "nsd_auc": auc(counted_nsd(nsd, dice)),
        "dsc_auc_all": normalised_auc(dice),
        "nsd_auc_all": normalised_auc(nsd),
        "noc": {str(target): number_of_clicks(dice, target) for target in (80, 85, 90)},
        "drop_rate": drops(dice, clicked)[0],
        "large_drop_rate": drops(dice, clicked)[1],
        "far_change_mean": 0.25,
        "far_change_rate": 0.5,
        "obeyed": [1.0] * 10,
        "obeyed_before": [0.5] * 10,
        "failed": [False] * 9 + [case == "failing"],
        "encodes": [4, 1] + [0] * 8,
        "re_encoded": [False, True] + [False] * 8,
        "encode_ms": 100.0,
        "re_encode_ms": [None, 50.0] + [None] * 8,
        "click_ms": [10.0] * 10,
        "request_ms": [400.0] + [50.0] * 8 + [None],
        "cold_start_ms": [900.0],
        "peak_memory_mib": {"host": 100.0},
        "blind": {"ball": [0.3] * 10, "centred_ellipsoid": 0.4, "ellipsoid_in_box": 0.6, "filled_box": 0.5},
    }


def rising(start: float, stop: float) -> list[float]:
    return np.linspace(start, stop, 10).tolist()


RECORDS = [record("a/1", [0.5] * 10, patient="a"), record("a/2", [0.9] * 10, patient="a"), record("b", [0.2] * 10)]


def test_patients_are_the_unit() -> None:
    summary = summarise(RECORDS)
    assert (summary["mode"], summary["n"], summary["cases"]) == ("centre", 2, 3)
    assert list(summary["dice_at"]) == list(summary["nsd2_at"]) == ["1", "3", "5", "10"]
    at_one = summary["dice_at"]["1"]
    assert at_one["mean"] == pytest.approx((0.7 + 0.2) / 2) and at_one["low"] <= at_one["mean"] <= at_one["high"]
    assert summary["noc85"]["mean"] == pytest.approx(((10 + 1) / 2 + 10) / 2)
    assert summary["failure85"]["mean"] == pytest.approx((0.5 + 1) / 2)
    assert summary["dsc_auc"]["mean"] == pytest.approx(4 * 0.45)
    # Of patient b no surface counts: its Dice is not above 0.2.
    assert summary["nsd_auc"]["mean"] == pytest.approx(4 * (0.35 + 0) / 2)
    assert (summary["obeyed"]["mean"], summary["obeyed_before"]["mean"]) == (1.0, 0.5)
    assert summary["blind"]["ball"]["dice_at"]["3"]["mean"] == pytest.approx(0.3)
    assert summary["blind"]["centred_ellipsoid"]["dice_at"]["10"]["mean"] == pytest.approx(0.4)


def test_times_are_of_their_own_samples() -> None:
    summary = summarise([record("a", [0.5] * 10), record("failing", [0.5] * 9 + [0.0])])
    assert summary["first_click_s"] == {"p50": 0.4, "p95": 0.4, "n": 2}
    assert summary["next_click_s"]["n"] == 16 and summary["next_click_s"]["p50"] == 0.05
    assert summary["latency_ms"]["encode"]["n"] == 4 and summary["re_encoded"] == pytest.approx(2 / 16)
    assert summary["encodes"] == {"first": {"mean": 4, "most": 4}, "next": {"mean": pytest.approx(1 / 9), "most": 1}}
    assert summary["latency_ms"]["cold_start"]["n"] == 2 and summary["failed_cases"] == ["failing"]


def test_seeds_are_averaged_within_the_case_and_modes_apart() -> None:
    drawn = [record("a", [score] * 10, mode="random", seed=seed) for score, seed in ((0.1, 42), (0.2, 43), (0.6, 44))]
    summary = summarise([*RECORDS, *drawn])
    random = summary["modes"]["random"]
    assert random["n"] == 1 and random["seeds"] == [42, 43, 44]
    assert random["dice_at"]["1"]["mean"] == pytest.approx(0.3)
    assert summary["dice_at"]["1"]["mean"] == pytest.approx(0.45)
    assert summarise(drawn)["mode"] == "random"


def test_report(tmp_path: Path) -> None:
    drawn = [record(name, rising(0.2, 0.8), mode="random") for name in "ab"]
    paper = record("a", [0.6] * 10, mode="paper-3") | {key: [0.6] for key in ("dice", "nsd2", "nsd5")}
    for key in ("dsc_auc", "nsd_auc", "noc", "drop_rate", "blind"):
        paper.pop(key)
    records = [*RECORDS, *drawn, {**paper, "blind": {"ball": [0.2], "centred_ellipsoid": 0.4}}]
    for one in records:
        one["blind"].setdefault("ellipsoid_in_box", 0.5)
    summary = summarise(records) | {"notes": ["A note."], "protocol": {"model": {"id": "test"}, "modes": ["centre"]}}
    write_report(tmp_path, summary, records)
    text = (tmp_path / "summary.md").read_text()
    assert "| centre | model | Dice | 0.450 [" in text and "| random | model | NSD 2 mm |" in text
    assert "| paper-3 | model | Dice |  | 0.600 |" in text
    assert "image-free: ball around each click" in text and "- A note." in text
    assert json.loads((tmp_path / "summary.json").read_text())["modes"]["random"]["n"] == 2
    assert (tmp_path / "dice_per_click.png").stat().st_size > 10_000


def test_without_baselines(tmp_path: Path) -> None:
    records = copy.deepcopy(RECORDS)
    for one in records:
        del one["blind"]
    summary = summarise(records) | {"notes": [], "protocol": {"model": {"id": "test"}}}
    assert summary["blind"] is None
    write_report(tmp_path, summary, records)
    assert "blind" not in (tmp_path / "summary.md").read_text()


def run_folder(folder: Path, records: list[Record], **settings: object) -> Path:
    folder.mkdir()
    write_json(folder / SETTINGS, {"protocol": {"clicks": 10}, **settings})
    (folder / CASES).write_text("".join(json.dumps(one) + "\n" for one in records))
    return folder


def shifted(by: float, noise: float = 0.0) -> list[Record]:
    rng = np.random.default_rng(3)
    return [record(f"p{n:02}", [float(0.5 + by + noise * rng.normal())] * 10) for n in range(20)]


@pytest.mark.parametrize(
    ("by", "noise", "verdict", "may_replace"),
    [
        (0.05, 0.01, "better", True),
        (0.0, 0.001, "no difference shown", True),
        (-0.005, 0.0, "worse", True),  # worse, but by less than the margin
        (-0.03, 0.001, "worse", False),
        (0.0, 0.1, "no difference shown", False),  # too uncertain
    ],
)
def test_comparison(tmp_path: Path, by: float, noise: float, verdict: str, may_replace: bool) -> None:
    candidate = run_folder(tmp_path / "candidate", shifted(by, noise), weights="other")
    result = compare(candidate, run_folder(tmp_path / "present", list(reversed(shifted(0.0)))))
    found = result["datasets"]["made_up"]["centre"]
    assert found["n"] == 20 and found["differences"]["dice_1"]["verdict"] == verdict
    assert found["differences"]["dice_1"]["mean"] == pytest.approx(by, abs=0.06)
    assert found["non_inferior"] is may_replace
    (line,) = sentences(result)
    assert line.startswith("made_up, centre, 20 patients: " + ("non-inferior" if may_replace else "NOT shown"))


def test_share_of_patients_that_gain(tmp_path: Path) -> None:
    better = [record("a", [0.6] * 10), record("b", [0.1] * 10), record("c", [0.5] * 10)]
    before = [record(case, [0.5] * 10) for case in "abc"]
    result = compare(run_folder(tmp_path / "a", better), run_folder(tmp_path / "b", before))
    assert result["datasets"]["made_up"]["centre"]["differences"]["dice_1"]["share_better"] == pytest.approx(1 / 3)


OTHERS = [
    pytest.param([record("a", [0.5] * 10)], "cases", id="cases"),
    pytest.param([record(c, [0.5] * 10, mode="random") for c in "ab"], "modes", id="modes"),
    pytest.param([record(c, [0.5] * 10, seed=43) for c in "ab"], "seeds", id="seeds"),
    pytest.param([record(c, [0.5] * 9) for c in "ab"], "clicks", id="cap"),
    pytest.param([record(c, [0.5] * 10) | {"data_sha256": "changed"} for c in "ab"], "images or labels", id="files"),
    pytest.param([record(c, [0.5] * 10, patient="x") for c in "ab"], "patients", id="patients"),
    pytest.param([], "without a finished case", id="empty"),
]


@pytest.mark.parametrize(("others", "words"), OTHERS)
def test_unequal_runs_are_not_compared(tmp_path: Path, others: list[Record], words: str) -> None:
    own = run_folder(tmp_path / "a", [record(case, [0.5] * 10) for case in "ab"])
    with pytest.raises(CompareError, match=words):
        compare(own, run_folder(tmp_path / "b", others))


def test_other_protocols_are_not_compared(tmp_path: Path) -> None:
    own = run_folder(tmp_path / "a", RECORDS)
    with pytest.raises(CompareError, match="different protocols"):
        compare(own, run_folder(tmp_path / "b", RECORDS, protocol={"clicks": 5}))


def test_records_from_before_far_changes_were_measured_leave_them_unknown(tmp_path: Path) -> None:
    old = [record(case, rising(0.5, 0.9)) for case in ("a", "b")]
    for one in old:
        del one["far_change_mean"], one["far_change_rate"]
    figures = summarise([*old, record("c", rising(0.5, 0.9))])
    assert figures["far_change"]["mean"] == 0.25 and figures["far_change"]["n"] == 1
    unknown = summarise(old)
    assert unknown["far_change"]["mean"] is None and unknown["dsc_auc"] == summarise(old)["dsc_auc"]
