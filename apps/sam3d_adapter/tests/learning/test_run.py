"""Runs: gone on with where all is the same, started anew otherwise, and no more kept than asked for."""

import stat

import pytest

from lib.learning.run import DECIDING, DONE, MEASURING, TRAINING, forget_finished, open_run

FACTS = {"parent": "shipped", "train": ["a", "b"], "max_epochs": 3}


def test_a_stopped_run_is_gone_on_with(tmp_path):
    run, goes_on = open_run(tmp_path / "runs", FACTS)
    assert not goes_on and run.stage == TRAINING
    run.advance(MEASURING, measured={"served": "shipped"})
    again, goes_on = open_run(tmp_path / "runs", FACTS)
    assert goes_on and again.id == run.id
    assert again.stage == MEASURING and again.results == {"measured": {"served": "shipped"}}


def test_other_data_start_anew_and_remove_what_was_stopped(tmp_path):
    run, _ = open_run(tmp_path, FACTS)
    other, goes_on = open_run(tmp_path, FACTS | {"train": ["a", "b", "c"]})
    assert not goes_on and other.id != run.id and not run.folder.exists()


def test_fresh_starts_anew(tmp_path):
    run, _ = open_run(tmp_path, FACTS)
    other, goes_on = open_run(tmp_path, FACTS, fresh=True)
    assert not goes_on and other.id != run.id and not run.folder.exists()


def test_a_finished_run_is_not_gone_on_with(tmp_path):
    run, _ = open_run(tmp_path, FACTS)
    run.advance(DONE)
    other, goes_on = open_run(tmp_path, FACTS)
    assert not goes_on and other.id != run.id and run.folder.exists()


def test_a_torn_run_is_removed(tmp_path):
    run, _ = open_run(tmp_path, FACTS)
    (run.folder / "run.json").write_text('{"facts": {"par')
    other, goes_on = open_run(tmp_path, FACTS)
    assert not goes_on and not run.folder.exists() and other.folder.exists()


def test_finished_runs_are_forgotten_oldest_first(tmp_path):
    runs = []
    for number in range(4):
        run, _ = open_run(tmp_path, FACTS | {"number": number})
        run.advance(DONE)
        run.folder.rename(run.folder.with_name(f"2026010{number}T000000-abc"))
        runs.append(run.folder.with_name(f"2026010{number}T000000-abc"))
    going, _ = open_run(tmp_path, FACTS)
    forget_finished(tmp_path, keep=2)
    assert [run.exists() for run in runs] == [False, False, True, True] and going.folder.exists()


def test_what_was_trained_is_measured_on_other_labels(tmp_path):
    """A candidate takes hours; that a label to measure on was corrected meanwhile is no reason to train it again."""
    run, _ = open_run(tmp_path, FACTS | {"validation": ["x:1", "y:2"]})
    run.advance(MEASURING)
    (run.folder / "validation").mkdir()
    again, goes_on = open_run(tmp_path, FACTS | {"validation": ["x:1", "y:3"]})
    assert goes_on and again.id == run.id and again.stage == MEASURING
    assert not (run.folder / "validation").exists(), "it is measured on labels that are there no more"
    found, goes_on = open_run(tmp_path, FACTS | {"validation": ["x:1", "y:3"]})
    assert goes_on and found.facts == again.facts


@pytest.mark.parametrize("stage", [TRAINING, DECIDING])
def test_other_labels_to_measure_on_start_anew_at_other_stages(tmp_path, stage):
    run, _ = open_run(tmp_path, FACTS | {"validation": ["x:1"]})
    run.advance(stage)
    other, goes_on = open_run(tmp_path, FACTS | {"validation": ["x:2"]})
    assert not goes_on and other.id != run.id


def test_what_was_trained_from_other_data_is_not_gone_on_with(tmp_path):
    run, _ = open_run(tmp_path, FACTS | {"validation": ["x:1"]})
    run.advance(MEASURING)
    for changed in ({"train": ["a"]}, {"parent": "v0001-0123abcd"}):
        other, goes_on = open_run(tmp_path, FACTS | {"validation": ["x:2"]} | changed)
        assert not goes_on and other.id != run.id
        other.advance(MEASURING)


def test_runs_are_for_the_servers_user_alone(tmp_path):
    (tmp_path / "runs").mkdir(mode=0o755)
    run, _ = open_run(tmp_path / "runs", FACTS)
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in (run.folder, run.folder.parent))
