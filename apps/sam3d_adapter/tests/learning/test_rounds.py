"""Rounds beside people who decide, versions that are lost, and rounds before that were the same."""

import json
from pathlib import Path

import pytest

from lib.evaluation.measure import MeasureVersion
from lib.learning import candidate, fine_tune
from lib.registry.errors import DamagedFile, RegistryError
from lib.registry.version import SHIPPED, Facts
from lib.trainers import train_task
from tests.support.hospital import Hospital
from tests.support.trained import write_trained
from tests.support.weights import write_test_weights


def other_weights(hospital: Hospital, seed: int) -> Path:
    return write_trained(hospital.app / hospital.preset.model.file("base"), hospital.folder / f"{seed}.st", seed=seed)


def best_and_gone(hospital: Hospital, weights: Path) -> str:
    """A version that is the best and no longer served."""
    name = hospital.versions.add(weights, Facts("gate")).id
    hospital.versions.publish(name, "gate", is_best=True)
    hospital.versions.publish(SHIPPED, "Dr. Roe")
    return name


@pytest.mark.slow
def test_a_damaged_best_version_does_not_end_learning(hospital: Hospital) -> None:
    hospital.submit(3)
    lost = best_and_gone(hospital, other_weights(hospital, 1))
    (hospital.versions.path(lost) / "version.json").write_text("{")
    with pytest.raises(DamagedFile):
        hospital.versions.best()
    outcome = hospital.train()
    (reason,) = [reason for reason in outcome["reasons"] if "left out of the comparison" in reason]
    assert lost in reason and "damaged" in reason and str(hospital.folder) not in reason
    version = hospital.versions.get(outcome["version"])
    assert version.metrics["validation"].keys() == {"candidate", "served"}
    assert version.metrics["compared_with"] == {"served": SHIPPED, "best": lost}
    assert reason in version.metrics["reasons"]
    # A person who publishes something sets it right.
    hospital.versions.publish(version.id, "Dr. Roe")
    assert hospital.versions.best() == version


@pytest.mark.parametrize("parent", ["shipped", "served"])
def test_a_served_version_that_cannot_be_loaded_is_told_before_training(hospital: Hospital, parent: str) -> None:
    hospital.submit(3)
    strange = hospital.versions.add(write_test_weights(hospital.folder / "elsewhere", seed=9)[1], Facts("me")).id
    hospital.versions.publish(strange, "me")
    with pytest.raises(RegistryError, match=f"The served version, {strange}, cannot be loaded.*Roll back"):
        hospital.train(parent=parent)
    assert not (hospital.versions.folder / "runs").exists()
    stats = hospital.task().stats()
    assert stats["stage"] == "failed" and "Roll back" in stats["reasons"][0]


@pytest.mark.slow
def test_records_of_versions_that_are_no_longer_in_force_are_measured_again(hospital: Hospital, monkeypatch) -> None:
    """Killed while the served version was measured; then another one is served."""
    hospital.submit(3)
    name = hospital.versions.add(other_weights(hospital, 1), Facts("me")).id
    real = MeasureVersion.__call__

    def dies(self, weights, cases, out):
        real(self, weights, cases, out)
        if out.name == "served":
            raise KeyboardInterrupt

    monkeypatch.setattr(MeasureVersion, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        hospital.train(parent="shipped")
    monkeypatch.setattr(MeasureVersion, "__call__", real)
    hospital.versions.publish(name, "Dr. Roe")
    version = hospital.versions.get(hospital.train(parent="shipped")["version"])
    assert version.metrics["compared_with"] == {"served": name, "best": SHIPPED}
    (run,) = (hospital.versions.folder / "runs").iterdir()
    record = json.loads((run / "measured/served/cases.jsonl").read_text().splitlines()[0])
    assert record["model"]["sha256"] == hospital.versions.get(name).sha256


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_rollback_while_the_candidate_is_measured_stays(hospital: Hospital, monkeypatch) -> None:
    monkeypatch.setattr(candidate, "STEPS_PER_EPOCH", 40)
    hospital.submit(20)
    before = hospital.versions.add(other_weights(hospital, 1), Facts("me")).id
    hospital.versions.publish(before, "me")
    hospital.versions.publish(SHIPPED, "me")
    real = MeasureVersion.__call__

    def measure(self, weights, cases, out):
        found = real(self, weights, cases, out)
        if out.name == "served":
            assert Hospital(hospital.folder).versions.roll_back("Dr. Roe", "it leaks") == before
        return found

    monkeypatch.setattr(MeasureVersion, "__call__", measure)
    outcome = hospital.train()
    assert hospital.versions.get(outcome["version"]).metrics["decision"]["publish"], "the gate would have"
    assert not outcome["published"] and hospital.versions.state().served == before
    assert f"which is {before} by now" in outcome["reasons"][0]
    assert hospital.versions.stages()[outcome["version"]] == "refused"


def test_a_round_that_would_be_the_same_is_not_begun(hospital: Hospital) -> None:
    hospital.submit(1)
    first = hospital.train()["version"]
    again = hospital.train()
    assert again["version"] is None and not again["published"]
    assert "Nothing has changed since the last training" in again["reasons"][0] and first in again["reasons"][0]
    assert hospital.versions.ids() == [first]
    assert hospital.task().stats()["reasons"] == tuple(again["reasons"])
    assert hospital.train(fresh=True)["version"], "unless it is asked for"
    assert len(hospital.versions.ids()) == 2


def test_a_round_removes_no_version_that_answered_or_was_imported(hospital: Hospital, monkeypatch) -> None:
    monkeypatch.setattr(fine_tune, "KEPT_VERSIONS", 1)
    hospital.submit(1)
    versions = hospital.versions
    weights = [other_weights(hospital, seed) for seed in range(5)]
    ids = [versions.add(path, Facts("me")).id for path in weights[:4]]
    imported = versions.add(weights[4], Facts("me", parent=None, origin={"id": "v0009-00000000"})).id
    for name in (ids[0], ids[1], SHIPPED):
        versions.publish(name, "Dr. Roe")
    made = hospital.train()["version"]
    assert versions.ids() == [ids[0], ids[1], imported, made], "of the others the newest is kept"
    assert versions.stages()[ids[2]] == versions.stages()[ids[3]] == "pruned"


def test_what_killed_trainings_left_is_swept_by_the_next_alone(hospital: Hospital) -> None:
    hospital.submit(1)
    hospital.train()
    folder = hospital.versions.folder
    (run,) = (folder / "runs").iterdir()
    names = ("progress.json.7-0a.partial", "versions.html.7.partial")
    left = [*(folder / name for name in names), run / "run.json.7-0a.partial", run / "test_state.partial"]
    for path in left:
        path.write_text("half")
    with hospital.task()._only_one():
        left[0].write_text("that training is writing it now")
        with pytest.raises(train_task.TrainingRunningError):
            hospital.train(seed=2)
        hospital.versions.prepare()
        assert left[0].exists()
    hospital.train(seed=2)
    assert not any(path.exists() for path in left)
