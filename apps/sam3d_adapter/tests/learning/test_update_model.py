"""One request for all presets: what has new labels is trained, and no more."""

from dataclasses import replace
from typing import Any

import pytest

from lib.configs.trainers import train_all
from lib.serving.preset_segmenter import MissingWeightsError
from lib.trainers.train_task import FineTuneTask
from tests.support.hospital import Hospital

pytestmark = pytest.mark.slow


def task(hospital: Hospital, name: str, **model: Any) -> FineTuneTask:
    """A task as of the hospital's preset, for a structure of its own."""
    preset = replace(hospital.preset, name=name, labels=(name,), model=replace(hospital.preset.model, **model))
    return FineTuneTask(preset, hospital.app, hospital.registry, hospital.audit_log, None, trainers=("test", name),
                        presets={"test": hospital.preset, name: preset})  # fmt: skip


def update(hospital: Hospital, trainers: dict[str, FineTuneTask], **request: Any) -> dict[str, Any]:
    request = {"max_epochs": 1, "device": "cpu", "gpus": "all", "local_rank": 0, **request}
    return train_all(trainers, request, hospital.store)


def test_new_labels_are_trained_on_once_and_what_was_said_of_them_stays(hospital):
    trainers = {"test": hospital.task()}
    hospital.submit(3)
    first = update(hospital, trainers)["test"]
    assert first["version"]
    # As if a person had published it: another parent alone is no new label.
    hospital.versions.publish(first["version"], "Dr. Roe")
    before = trainers["test"].stats()
    for request in ({}, {"max_epochs": 2}, {"test": {"seed": 5}}):
        again = update(hospital, trainers, **request)["test"]
        assert (
            again["version"] is None
            and f"since the last training, which made {first['version']}" in again["reasons"][0]
        )
    assert trainers["test"].stats() == before and before["stage"] == "done"
    assert [one.id for one in hospital.versions.versions()] == [first["version"]]
    hospital.submit(1, first=3)
    second = hospital.versions.get(update(hospital, trainers)["test"]["version"])
    assert second.parent == first["version"]


def test_a_preset_without_weights_or_labels_keeps_no_other_from_its_turn(hospital, caplog):
    hospital.submit(2)
    bare = task(hospital, "bare", files=(*hospital.preset.model.files[:-1], "weights/none.safetensors"))
    cyst, busy = task(hospital, "cyst"), task(hospital, "busy")
    (hospital.registry.learning_dir / "busy/test").mkdir(parents=True)
    assert "no weights" in (bare.missing_weights() or "") and cyst.missing_weights() is None
    assert "missing: none.safetensors" in bare.info()["description"] and not bare.info()["available"]
    with pytest.raises(MissingWeightsError, match="none.safetensors"):
        bare({}, hospital.store)
    with busy._only_one():
        done = update(hospital, {"bare": bare, "busy": busy, "cyst": cyst, "test": hospital.task()})
    assert list(done) == ["cyst", "test"]
    assert done["cyst"]["version"] is None and done["test"]["version"]
    assert bare.stats() == {} and cyst.stats()["stage"] == "nothing to learn from"


def test_one_that_fails_is_said_and_the_others_are_trained(hospital):
    hospital.submit(2)
    torn = task(hospital, "torn", files=(*hospital.preset.model.files[:-1], "weights/torn.safetensors"))
    torn.preset = replace(torn.preset, labels=("lesion",))
    (hospital.app / "weights/torn.safetensors").write_bytes(b"torn")
    with pytest.raises(RuntimeError, match="torn failed"):
        update(hospital, {"torn": torn, "test": hospital.task()})
    assert torn.stats()["stage"] == "failed" and hospital.task().stats()["version"]


def test_viewers_can_divide_by_the_epochs_from_the_first_moment_on(hospital):
    found = hospital.task()
    with found._only_one():
        found._progress.start(10)
        stats = found.stats()
        # 3D Slicer and OHIF take it for the end.
        assert (stats["epoch"], stats["total_epochs"]) == (0, 10) and "total_time" not in stats
        found._progress.update(stage="training", epoch=3, seconds=65.0, dice={"dice": 0.9})
        stats = found.stats()
        assert (stats["epoch"], stats["total_epochs"]) == (3, 10) and not {"total_time", "best_metric"} & stats.keys()
    stats = hospital.task().stats()
    assert stats["total_time"] == "0:01:05" and "goes on from epoch 3" in stats["stage"]
