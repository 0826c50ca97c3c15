"""Runs: gone on with where all is the same, started anew otherwise, and no more kept than asked for."""

from lib.trainers.run import DONE, MEASURING, TRAINING, forget_finished, open_run

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
