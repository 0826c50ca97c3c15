"""A stopped run goes on; nothing else is mixed in."""

import json
from pathlib import Path

import pytest

from lib.evaluation.ledger import CASES, OTHERS, Ledger, LedgerError, read_records

SETTINGS = {"weights": "one", "protocol": {"clicks": 10}}


def facts(case: str) -> dict:
    return {"data_sha256": f"of {case}", "patient": "first", "dataset": "all", "split": "test"}


def record(case: str, mode: str = "centre", seed: int = 42) -> dict:
    return {"case": case, "mode": mode, "seed": seed, **facts(case)}


def test_what_is_finished_is_found_again(tmp_path: Path) -> None:
    Ledger(tmp_path, SETTINGS).add(record("b"))
    ledger = Ledger(tmp_path, SETTINGS)
    ledger.add(record("a"))
    assert ledger.finished({name: facts(name) for name in "abc"}) == {("a", "centre", 42), ("b", "centre", 42)}
    assert [one["case"] for one in ledger.sort([("b", "centre", 42), ("a", "centre", 42)])] == ["b", "a"]
    assert [one["case"] for one in read_records(tmp_path)] == ["b", "a"] and not (tmp_path / OTHERS).exists()


def test_what_is_not_asked_for_any_more_is_in_no_figure_and_not_lost(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, SETTINGS)
    for case in "abc":
        ledger.add(record(case))
    for asked in ("ac", "a", "abc"):
        ledger = Ledger(tmp_path, SETTINGS)
        order = [(case, "centre", 42) for case in asked]
        assert set(order) <= ledger.finished({case: facts(case) for case in asked})
        assert [one["case"] for one in ledger.sort(order)] == list(asked)
        assert [one["case"] for one in read_records(tmp_path)] == list(asked)


def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    Ledger(tmp_path, SETTINGS).add(record("a"))
    with (tmp_path / CASES).open("a") as file:
        file.write(json.dumps(record("b"))[:20])
    ledger = Ledger(tmp_path, SETTINGS)
    assert ledger.finished({name: facts(name) for name in "ab"}) == {("a", "centre", 42)}
    ledger.add(record("b"))
    assert len(read_records(tmp_path)) == 2


def test_other_settings_and_other_files_are_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, SETTINGS)
    ledger.add(record("a"))
    with pytest.raises(LedgerError, match="weights was 'one' and is 'two'"):
        Ledger(tmp_path, {**SETTINGS, "weights": "two"})
    with pytest.raises(LedgerError, match="scores of a on other files"):
        ledger.finished({"a": {**facts("a"), "data_sha256": "changed"}})


@pytest.mark.parametrize("key", ["patient", "dataset", "split"])
def test_who_a_case_counts_for_may_not_change_either(tmp_path: Path, key: str) -> None:
    ledger = Ledger(tmp_path, SETTINGS)
    ledger.add(record("a"))
    with pytest.raises(LedgerError, match=f"scores of a as of {key} '.*', which now is 'another'"):
        ledger.finished({"a": {**facts("a"), key: "another"}})


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / CASES).write_text("")
    with pytest.raises(LedgerError, match="no folder of a run"):
        Ledger(tmp_path, SETTINGS)
    with pytest.raises(LedgerError, match="no readable"):
        read_records(tmp_path / "absent")
