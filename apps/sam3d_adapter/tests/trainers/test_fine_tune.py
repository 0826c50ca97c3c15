"""A fine-tuning round: what it learns from, what it leaves behind, who decides."""

import json
import os
from dataclasses import replace

import pytest
import torch

from lib.learning.replay import KINDS, Replay
from lib.models.checkpoint import load_model
from lib.models.trainable import frozen_names
from lib.trainers import train_task
from lib.trainers import training as training_stage
from lib.trainers.settings import SettingError
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


def test_only_what_is_published_as_trained_changes(hospital, monkeypatch):
    monkeypatch.setattr(training_stage, "STEPS_PER_EPOCH", 20)
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


def test_what_is_kept_is_measured_on_lesions_that_no_round_trains_on(hospital, tmp_path):
    hospital.submit(2)
    kinds = tuple(replace(kind, trained=1, held_out=1) for kind in KINDS)
    hospital.replay = lambda preset: Replay(tmp_path / "replay", preset, kinds)
    outcome = hospital.train()
    (version,) = hospital.versions.versions()
    retention = version.metrics["retention"]
    for measured in (retention["before"], retention["after"]):
        assert {"dice", "dice_5", "obeyed"} == set(measured) and all(0 <= value <= 1 for value in measured.values())
    assert retention["before"] != retention["after"]
    assert f"from {retention['before']['dice']:.2f} to {retention['after']['dice']:.2f}" in outcome["reasons"][-1]
    assert "On synthetic lesions" in (hospital.versions.folder / "versions.html").read_text()
    for kind in kinds:
        folder = tmp_path / "replay" / kind.folder
        trained, measured = (sorted(path.name for path in folder.glob(p)) for p in ("*.npz", "held_out/*"))
        assert len(trained) == len(measured) == 1 and trained != measured


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_eight_validation_patients_on_the_gate_decides(hospital, monkeypatch):
    """Random weights that learn to find bright blocks are better afterwards; with wrong labels they are not."""
    monkeypatch.setattr(training_stage, "STEPS_PER_EPOCH", 40)
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
    monkeypatch.setattr(training_stage, "STEPS_PER_EPOCH", 40)
    hospital.submit(20)
    assert hospital.train()["published"]
    good = hospital.versions.served()
    weights = hospital.versions.weights(good.id).read_bytes()
    material = hospital.task().material(hospital.store)
    hospital.spoil([case.image_id for case in material.train])
    outcome = hospital.train(max_epochs=2)
    assert not outcome["published"] and len(outcome["reasons"]) > 1
    assert hospital.versions.served() == good and hospital.versions.weights(good.id).read_bytes() == weights
    # Whoever was validated on still is, and was never trained on.
    after = hospital.task().material(hospital.store)
    assert [case.image_id for case in after.validation] == [case.image_id for case in material.validation]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_not_published_where_that_was_not_wanted(hospital, monkeypatch):
    monkeypatch.setattr(training_stage, "STEPS_PER_EPOCH", 40)
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


def test_two_at_once_are_refused(hospital):
    hospital.submit(2)
    with hospital.task()._only_one(), pytest.raises(train_task.TrainingRunningError, match="Wait for it to end"):
        hospital.train()
    assert hospital.train()["version"]


def test_unknown_keys_train_nothing(hospital):
    hospital.submit(2)
    with pytest.raises(SettingError):
        hospital.train(train_ds=["/etc/passwd"])
    assert hospital.versions.versions() == []


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
