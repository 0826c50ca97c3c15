"""A round of two processes: the first one lists the labels for both, and both end where it cannot go on."""

import json
from pathlib import Path
from typing import Any

import pytest
from monailabel.datastore.local import LocalDatastore

from lib.learning import candidate
from lib.pretraining.spawning import free_port, join_as, run_together
from lib.training.distributed import joined_processes
from tests.support.hospital import Hospital

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # each starts two processes that import everything


def take_part(number: int, folder: Path, port: int) -> None:
    """In a round; what comes of it goes into a file. The second process's data store shows no label yet."""
    join_as(number, 2, port)
    candidate.STEPS_PER_EPOCH, candidate.VALIDATION_BATCHES, candidate.WORKERS = 2, 1, 0
    hospital = Hospital(folder)
    if number:
        (folder / "empty").mkdir()
        hospital.store = LocalDatastore(str(folder / "empty"), auto_reload=False)
    outcome: Any
    with joined_processes("cpu"):
        try:
            outcome = hospital.train()
        except Exception as error:
            outcome = [type(error).__name__, str(error)]
    (folder / f"outcome_{number}.json").write_text(json.dumps(outcome))


def outcomes(hospital: Hospital) -> list[Any]:
    """Of both processes."""
    run_together(take_part, (hospital.folder, free_port()), 2, refused=())
    return [json.loads((hospital.folder / f"outcome_{number}.json").read_text()) for number in (0, 1)]


def test_both_train_on_what_the_first_one_lists(hospital: Hospital) -> None:
    hospital.submit(3)
    first, second = outcomes(hospital)
    (version,) = hospital.versions.versions()
    assert first["version"] == version.id and second == {}
    assert version.metrics["cases"] == {"train": 2, "validation": 1}


def test_both_end_where_nothing_is_new(hospital: Hospital) -> None:
    hospital.submit(1)
    hospital.train()
    first, second = outcomes(hospital)
    assert first == second and "Nothing has changed since the last training" in first["reasons"][0]


def test_both_fail_where_the_first_one_cannot_list(hospital: Hospital) -> None:
    hospital.submit(1)
    hospital.task().training_data(hospital.store)
    (hospital.registry.learning_dir / "splits.json").write_text("{")
    first, second = outcomes(hospital)
    assert first[0] == "SplitsError" and "splits.json is damaged" in first[1]
    assert second == ["FirstProcessError", first[1]]
    assert hospital.task().stats()["stage"] == "failed"


def test_both_fail_where_the_preset_is_being_trained(hospital: Hospital) -> None:
    hospital.submit(1)
    with hospital.task()._only_one():
        first, second = outcomes(hospital)
    assert first[0] == "TrainingRunningError" and second == ["FirstProcessError", first[1]]
