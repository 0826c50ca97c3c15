"""Runs on the disk: resumed or started anew; and whether a round would be the same as the one before."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lib.learning import run as run_module
from lib.learning.run import (
    DECIDING,
    DONE,
    MEASURING,
    TRAINING,
    open_run,
    outcome_settings,
    remove_finished_runs,
    up_to_date_reason,
)
from lib.learning.settings import TrainSettings
from lib.registry.registry import Registry
from lib.registry.version import SHIPPED, Facts
from lib.registry.versions import Versions

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
    remove_finished_runs(tmp_path, keep=2)
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


FACTS = {"parent": "shipped", "train": ["a", "b"], "validation": ["c"], "max_epochs": 3, "seed": 1}


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Registry(tmp_path / "learning").of("ct", "tiny")


def add(versions: Versions) -> str:
    path = versions.folder.parents[2] / "weights.safetensors"
    save_file({"a": np.arange(8.0) + len(versions.ids())}, path)
    return versions.add(path, Facts("training")).id


def finish(versions: Versions, settings: TrainSettings, facts: dict[str, Any] = FACTS, *, is_compared: bool) -> str:
    """A round of these facts; the version it made."""
    run, _ = open_run(versions.folder / "runs", facts)
    state = versions.state()
    measured = {"served": state.served, "best": state.best or SHIPPED} if is_compared else {}
    run.advance(DECIDING, measured=measured)
    version = add(versions)
    run.advance(DONE, version=version, published=False, wanted=outcome_settings(settings))
    return version


@pytest.mark.parametrize("is_compared", [True, False])
def test_the_same_again_is_told_with_its_version(versions: Versions, is_compared: bool) -> None:
    settings = TrainSettings(max_minutes=2.5)
    assert up_to_date_reason(versions, FACTS, settings) is None, "there was none"
    made = finish(versions, settings, is_compared=is_compared)
    for asked in (settings, TrainSettings(max_minutes=2.5, device="cuda:0", started_by="me", tracking="mlflow")):
        assert made in str(up_to_date_reason(versions, dict(FACTS), asked))
    versions.refuse(made, ["no"])
    assert up_to_date_reason(versions, FACTS, settings)


@pytest.mark.parametrize(
    "facts",
    [{"train": ["a"]}, {"train": ["a", "d"]}, {"validation": []}, {"parent": "v0001-00000000"}, {"seed": 2}],
    ids=str,
)
def test_other_facts_are_another_round(versions: Versions, facts: dict[str, Any]) -> None:
    finish(versions, TrainSettings(), is_compared=True)
    assert up_to_date_reason(versions, FACTS | facts, TrainSettings()) is None


@pytest.mark.parametrize("change", [{"publish": False}, {"max_minutes": 5.0}, {"fresh": True}], ids=str)
def test_other_wishes_are_another_round(versions: Versions, change: dict[str, Any]) -> None:
    finish(versions, TrainSettings(), is_compared=True)
    assert up_to_date_reason(versions, FACTS, TrainSettings(**change)) is None


def test_another_release_of_the_app_may_do_better(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(versions, TrainSettings(), is_compared=True)
    monkeypatch.setattr(run_module, "__version__", "99.0")
    assert up_to_date_reason(versions, FACTS, TrainSettings()) is None


def test_beside_other_versions_the_decision_may_be_another(versions: Versions) -> None:
    made = finish(versions, TrainSettings(), is_compared=True)
    other = add(versions)
    versions.publish(other, "me")
    assert up_to_date_reason(versions, FACTS, TrainSettings()) is None
    versions.publish(SHIPPED, "me")
    assert up_to_date_reason(versions, FACTS, TrainSettings())
    versions.publish(other, "me", is_best=True)
    versions.publish(SHIPPED, "me")
    assert up_to_date_reason(versions, FACTS, TrainSettings()) is None
    versions.publish(made, "me")
    assert up_to_date_reason(versions, FACTS, TrainSettings()), "it is served already"


def test_without_a_validation_patient_there_is_no_other_decision(versions: Versions) -> None:
    finish(versions, TrainSettings(), is_compared=False)
    versions.publish(add(versions), "me", is_best=True)
    assert up_to_date_reason(versions, FACTS, TrainSettings())


def test_a_version_that_is_gone_is_made_again(versions: Versions) -> None:
    made = finish(versions, TrainSettings(), is_compared=True)
    assert versions.prune(0) == [made]
    assert up_to_date_reason(versions, FACTS, TrainSettings()) is None


def test_a_stopped_round_is_gone_on_with(versions: Versions) -> None:
    finish(versions, TrainSettings(), is_compared=True)
    # Names of runs begin with the second; in the same one their order is drawn.
    (done,) = (versions.folder / "runs").iterdir()
    done.rename(done.with_name("20200101T000000-abcdef"))
    open_run(versions.folder / "runs", FACTS, fresh=True)
    assert up_to_date_reason(versions, FACTS, TrainSettings()) is None


def test_a_round_of_an_earlier_release_is_no_measure(versions: Versions) -> None:
    run, _ = open_run(versions.folder / "runs", FACTS)
    run.advance(DONE, version=add(versions), published=False)
    assert up_to_date_reason(versions, FACTS, TrainSettings()) is None
