"""A fine-tuning round: what it learns from, what it leaves behind, who decides."""

import csv
import functools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.annotations.submitted_set import SubmittedDataSet
from lib.evaluation.measure import MeasureVersion
from lib.host.workflow import Workflow
from lib.learning import candidate
from lib.learning.progress import ENDS, ProgressFile
from lib.learning.rehearsal import KINDS, Rehearsal
from lib.learning.settings import SettingError
from lib.models.checkpoint import load_model
from lib.models.trainable import frozen_names
from lib.trainers import train_task
from tests.support.hospital import Hospital


def test_without_labels_it_says_so_and_makes_nothing(hospital: Hospital) -> None:
    outcome = hospital.train()
    assert outcome["version"] is None and "no submitted label" in outcome["reasons"][0]
    assert hospital.versions.versions() == []
    assert hospital.task().stats()["stage"] == "nothing to learn from"


def test_few_patients_are_learned_from_but_nothing_is_published(hospital):
    hospital.submit(3)
    outcome = hospital.train(started_by="Dr. Roe")
    (version,) = hospital.versions.versions()
    assert outcome["version"] == version.id and not outcome["published"]
    assert any("1 validation patient" in reason for reason in outcome["reasons"])
    assert hospital.versions.served() is None
    assert version.started_by == "Dr. Roe" and version.parent == "shipped" and len(version.data) == 2
    assert version.metrics["cases"] == {"train": 2, "validation": 1}
    assert {"candidate", "served"} == set(version.metrics["validation"])
    page = (hospital.versions.folder / "versions.html").read_text()
    assert version.id in page and "1 validation patient" in page and "Dr. Roe" not in page
    curve = json.loads((hospital.versions.path(version.id) / "curve.json").read_text())
    assert curve[-1]["step"] == 2 and "dice" in curve[-1]
    stats = hospital.task().stats()
    assert stats["epoch"] == stats["total_epochs"] == 1 and stats["stage"] == "done" and not stats["published"]
    json.dumps(stats, allow_nan=False)


@pytest.mark.slow
def test_only_what_is_published_as_trained_changes(hospital, monkeypatch):
    monkeypatch.setattr(candidate, "STEPS_PER_EPOCH", 20)
    hospital.submit(2)
    hospital.train()
    (version,) = hospital.versions.versions()
    base, shipped = (hospital.app / hospital.preset.model.file(key) for key in ("base", "weights"))
    before, _ = load_model(size="test", base=base, weights=shipped)
    after, report = load_model(size="test", base=base, weights=hospital.versions.weights(version.id))
    frozen = frozen_names(before)
    moved = {n for n, p in before.named_parameters() if not torch.equal(p.half(), after.get_parameter(n).half())}
    assert len(moved) > 20 and not moved & frozen
    assert report.provenance["parent"] == "shipped" and report.provenance["preset"] == "test"


@pytest.mark.slow
def test_what_is_kept_is_measured_on_lesions_that_no_round_trains_on(hospital, tmp_path):
    hospital.submit(2)
    kinds = tuple(replace(kind, trained=1, held_out=1) for kind in KINDS)
    hospital.rehearsal = lambda preset: Rehearsal(tmp_path / "rehearsal", preset, kinds)
    outcome = hospital.train()
    (version,) = hospital.versions.versions()
    retention = version.metrics["retention"]
    for measured in (retention["before"], retention["after"]):
        assert {"dice", "dice_5", "obeyed"} == set(measured) and all(0 <= value <= 1 for value in measured.values())
    assert retention["before"] != retention["after"]
    assert f"from {retention['before']['dice']:.2f} to {retention['after']['dice']:.2f}" in outcome["reasons"][-1]
    assert "On synthetic lesions" in (hospital.versions.folder / "versions.html").read_text()
    for kind in kinds:
        folder = tmp_path / "rehearsal" / kind.folder
        trained, measured = (sorted(path.name for path in folder.glob(p)) for p in ("*.npz", "held_out/*"))
        assert len(trained) == len(measured) == 1 and trained != measured


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_eight_validation_patients_on_the_gate_decides(hospital, monkeypatch):
    """Random weights that learn to find bright blocks are better afterwards; with wrong labels they are not."""
    monkeypatch.setattr(candidate, "STEPS_PER_EPOCH", 40)
    hospital.submit(20)
    outcome = hospital.train()
    served = hospital.versions.served()
    assert outcome["published"] and served.id == outcome["version"], outcome["reasons"]
    assert hospital.versions.best().id == served.id
    figures = served.metrics["validation"]
    assert figures["candidate"]["n"] == 8
    assert figures["candidate"]["dice_at"]["1"]["mean"] > figures["served"]["dice_at"]["1"]["mean"] + 0.1

    again = hospital.train(max_epochs=1, seed=2)
    versions = hospital.versions.versions()
    assert len(versions) == 2 and versions[-1].parent == served.id, "the next round starts from what is served"
    assert again["published"] == (hospital.versions.served().id == versions[-1].id)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worse_candidate_is_refused_and_the_served_model_stays(hospital, monkeypatch):
    """Twenty good labels, then the labels of those who are trained on are replaced by an empty corner."""
    monkeypatch.setattr(candidate, "STEPS_PER_EPOCH", 40)
    hospital.submit(20)
    assert hospital.train()["published"]
    good = hospital.versions.served()
    weights = hospital.versions.weights(good.id).read_bytes()
    material = hospital.task().training_data(hospital.store)
    hospital.spoil([case.image_id for case in material.train])
    outcome = hospital.train(max_epochs=2)
    assert not outcome["published"] and len(outcome["reasons"]) > 1
    assert hospital.versions.served() == good and hospital.versions.weights(good.id).read_bytes() == weights
    # Whoever was validated on still is, and was never trained on.
    after = hospital.task().training_data(hospital.store)
    assert [case.image_id for case in after.validation] == [case.image_id for case in material.validation]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_not_published_where_that_was_not_wanted(hospital, monkeypatch):
    monkeypatch.setattr(candidate, "STEPS_PER_EPOCH", 40)
    hospital.submit(20)
    outcome = hospital.train(publish=False)
    assert not outcome["published"] and "as it was asked for" in outcome["reasons"][0]
    assert hospital.versions.served() is None


def test_a_parent_is_named(hospital):
    hospital.submit(2)
    first = hospital.train()["version"]
    hospital.train(parent=first, seed=2)
    assert [version.parent for version in hospital.versions.versions()] == ["shipped", first]
    with pytest.raises(ValueError, match="v0009-01234567"):
        hospital.train(parent="v0009-01234567")
    assert hospital.task().stats()["stage"] == "failed"


@pytest.mark.slow
def test_a_rejected_label_leaves_the_next_version_and_those_it_starts_from(hospital):
    workflow = Workflow(hospital.registry.learning_dir)
    hospital.submit(3)
    first = hospital.train()["version"]
    hospital.versions.publish(first, "me")
    hospital.submit(3, first=3)
    second = hospital.train(seed=2)["version"]
    hospital.versions.publish(second, "me")
    learned = {one.id: {pair.rpartition(":")[2] for pair in one.data} for one in hospital.versions.versions()}
    ids = {label.sha256: label for label in workflow.read(hospital.store).labels}
    new = learned[second] - learned[first]
    assert new and learned[first] < learned[second]
    for sha256 in new:
        workflow.review(hospital.store, ids[sha256].id, "reject", "Dr. Poe", "no tail")
    third = hospital.train(seed=3)["version"]
    versions = {one.id: one for one in hospital.versions.versions()}
    assert [versions[one].parent for one in (first, second, third)] == ["shipped", first, first]
    assert {pair.rpartition(":")[2] for pair in versions[third].data} == learned[first]
    workflow.review(hospital.store, ids[next(iter(learned[first]))].id, "reject", "Dr. Poe", "no tail")
    fourth = hospital.versions.get(hospital.train(seed=4)["version"])
    assert fourth.parent == "shipped" and len(fourth.data) == 1


@pytest.mark.slow
def test_two_at_once_are_refused(hospital):
    hospital.submit(2)
    with hospital.task()._only_one(), pytest.raises(train_task.TrainingRunningError, match="Wait for it to end"):
        hospital.train()
    assert hospital.train()["version"]


def test_a_training_that_was_killed_is_not_shown_as_going_on(hospital):
    """Nobody is left to write that it has ended."""
    task = hospital.task()
    for epoch, words in ((3, "goes on from epoch 3"), (0, "begins anew")):
        pid = os.fork()
        if not pid:
            with task._only_one():
                task._progress.start()
                task._progress.update(stage="training", epoch=epoch, total_epochs=10, seconds_left=420.0)
                os.kill(os.getpid(), 9)
        os.waitpid(pid, 0)
        stats = hospital.task().stats()
        assert stats["stage"] == f"stopped; the next training {words}" and "seconds_left" not in stats
        assert (stats["epoch"], stats["total_epochs"]) == (epoch, 10)
        json.dumps(stats, allow_nan=False)


def test_a_training_that_goes_on_is_shown_so_until_it_has_ended(hospital):
    task = hospital.task()
    with task._only_one():
        task._progress.start()
        task._progress.update(stage="training", epoch=3, total_epochs=10, seconds_left=420.0)
        stats = hospital.task().stats()
        assert stats["stage"] == "training" and stats["seconds_left"] == 420.0
    for stage in ENDS:
        task._progress.update(stage=stage)
        assert hospital.task().stats()["stage"] == stage


def test_a_training_that_ends_while_it_is_looked_at_is_not_called_stopped(hospital, monkeypatch):
    task = hospital.task()
    task._progress.start()
    monkeypatch.setattr(train_task, "is_locked", lambda path: task._progress.update(stage="done"))
    assert hospital.task().stats()["stage"] == "done"


def test_unknown_keys_train_nothing(hospital):
    hospital.submit(2)
    with pytest.raises(SettingError):
        hospital.train(train_ds=["/etc/passwd"])
    assert hospital.versions.versions() == []


@pytest.mark.slow
def test_a_full_disk_leaves_what_is_served(hospital, monkeypatch):
    hospital.submit(3)
    first = hospital.train()["version"]
    hospital.versions.publish(first, "Dr. Roe")
    real = os.fsync

    def full(fd):
        if "candidate" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        hospital.train(seed=3)
    monkeypatch.setattr(os, "fsync", real)
    assert hospital.versions.served().id == first and len(hospital.versions.versions()) == 1
    assert hospital.train(seed=3)["version"] and len(hospital.versions.versions()) == 2


def before_measuring(monkeypatch: pytest.MonkeyPatch, happens: Callable[[str], None]) -> None:
    """Whatever people do while a round is at its measurements; told which version is measured next."""
    measure = MeasureVersion.__call__

    def meanwhile(self: MeasureVersion, weights: Path, sources: object, out: Path) -> object:
        happens(out.name)
        return measure(self, weights, sources, out)

    monkeypatch.setattr(MeasureVersion, "__call__", meanwhile)


def validated(hospital: Hospital) -> list[str]:
    return [case.image_id for case in hospital.task().training_data(hospital.store).validation]


def records_of(hospital: Hospital, version: str, name: str) -> list[dict]:
    lines = (hospital.versions.path(version) / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_what_is_kept_of_a_version_or_run_names_nobody(hospital):
    """Neither a patient nor an image, whose id is a SeriesInstanceUID or whatever a file was called."""
    hospital.submit(4)
    names = {f"patient_{number:02d}": f"MRN-471{number}" for number in range(4)}
    with (hospital.studies / "patients.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "patient"), *names.items()])
    version = hospital.train()["version"]
    kept = [path for part in ("versions", "runs") for path in (hospital.versions.folder / part).rglob("*")]
    assert any(path.name == "candidate.jsonl" for path in kept) and any(path.name == "cases.jsonl" for path in kept)
    for path in kept:
        content = path.read_bytes() if path.is_file() else b""
        found = [name for name in (*names, *names.values()) if name in str(path) or name.encode() in content]
        assert not found, f"{path} names {found}"
    measured, served = ({(one["case"], one["patient"]) for one in records_of(hospital, version, name)}
                         for name in ("candidate", "served"))  # fmt: skip
    assert measured == served and len(measured) == 2
    images = [path for path in kept if path.name.startswith("image")]
    assert not images, "images are held no longer than they are needed"


def test_an_error_of_an_image_does_not_name_it(hospital, monkeypatch):
    hospital.submit(2)
    (name,) = validated(hospital)
    before_measuring(monkeypatch, lambda _: (hospital.studies / f"{name}.nii.gz").write_bytes(b"no image"))
    version = hospital.train()["version"]
    (record,) = records_of(hospital, version, "candidate")
    assert all(record["failed"]) and "cannot be read" in record["error"] and name not in json.dumps(record)


@pytest.mark.slow
def test_labels_that_are_corrected_or_removed_meanwhile_leave_the_round_alone(hospital, monkeypatch):
    hospital.submit(4)
    first, second = validated(hospital)

    def happens(name: str) -> None:
        if name == "candidate":
            hospital.spoil([first])
        else:
            (hospital.studies / f"labels/final/{second}.nii.gz").unlink()
            (hospital.studies / f"{second}.nii.gz").unlink()

    before_measuring(monkeypatch, happens)
    version = hospital.versions.get(hospital.train()["version"])
    assert {name: found["n"] for name, found in version.metrics["validation"].items()} == {"candidate": 2, "served": 2}
    one, other = (records_of(hospital, version.id, name) for name in ("candidate", "served"))
    assert [record["object_voxels"] for record in one] == [1000, 1000] == [record["object_voxels"] for record in other]
    assert not any(any(record["failed"]) for record in one + other)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["candidate", "served"])
def test_an_image_that_is_removed_meanwhile_from_another_disk_does_not_count(hospital, monkeypatch, when):
    """After the candidate was measured on it, or after both were, of whom one may have come too late."""

    def no_link(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    hospital.submit(4)
    _, second = validated(hospital)
    measure = MeasureVersion.__call__

    def then_removed(self: MeasureVersion, weights: Path, sources: object, out: Path) -> object:
        found = measure(self, weights, sources, out)
        if out.name == when:
            (hospital.studies / f"{second}.nii.gz").unlink()
        return found

    monkeypatch.setattr(MeasureVersion, "__call__", then_removed)
    version = hospital.versions.get(hospital.train()["version"])
    assert {name: found["n"] for name, found in version.metrics["validation"].items()} == {"candidate": 1, "served": 1}
    assert version.metrics["decision"]["n_patients"] == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_candidate_outlasts_a_corrected_label(hospital, monkeypatch):
    """The process ends at its measurements, a label is corrected, and the next training goes on with the candidate."""
    hospital.submit(4)
    first, _ = validated(hospital)
    is_killed = True

    def happens(name: str) -> None:
        if is_killed and name == "served":
            raise KeyboardInterrupt

    before_measuring(monkeypatch, happens)
    with pytest.raises(KeyboardInterrupt):
        hospital.train()
    (run,) = (hospital.versions.folder / "runs").iterdir()
    hospital.spoil([first])
    is_killed = False
    version = hospital.versions.get(hospital.train()["version"])
    assert version.metrics["run"] == run.name
    for name in ("candidate", "served"):
        assert sorted(record["object_voxels"] for record in records_of(hospital, version.id, name)) == [64, 1000]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_training_with_more_labels_than_memory_goes_on_to_the_same_weights(hospital, monkeypatch):
    """Stopped after the first of two epochs, and as if nothing had happened."""
    few = functools.partial(SubmittedDataSet, max_bytes=2 * (5 * 28**3 + 24 * 1000), stay=4)
    monkeypatch.setattr(candidate, "SubmittedDataSet", few)
    monkeypatch.setattr(candidate, "STEPS_PER_EPOCH", 8)
    hospital.submit(6)
    update = ProgressFile.update

    def stopped(self: ProgressFile, **changes: object) -> None:
        update(self, **changes)
        if changes.get("epoch") == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ProgressFile, "update", stopped)
        with pytest.raises(KeyboardInterrupt):
            hospital.train(max_epochs=2)
    hurt = hospital.train(max_epochs=2)["version"]
    calm = hospital.train(max_epochs=2, fresh=True)["version"]
    assert hurt != calm and hospital.versions.get(hurt).sha256 == hospital.versions.get(calm).sha256


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
@pytest.mark.filterwarnings("ignore")
def test_the_curve_is_tracked(hospital, kind):
    hospital.submit(2)
    hospital.train(tracking=kind)
    folder = hospital.versions.folder
    if kind == "tensorboard":
        assert list(folder.rglob("events.out.tfevents*"))
        return
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    assert run.data.metrics["loss"] > 0 and run.info.status == "FINISHED"
