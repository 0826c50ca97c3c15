"""The predicted Dice of answers, which the real server learns by itself once enough patients are labelled."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.hospital import Hospital
from tests.support.server import AppServer, start_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DEADLINE_S = 300


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    made = Hospital(tmp_path_factory.mktemp("predicted"))
    made.submit(20)
    (made.studies / "labels/final/patient_19.nii.gz").rename(made.folder / "last.nii.gz")
    made.store.refresh()
    return made


@pytest.fixture(scope="module")
def server(hospital: Hospital) -> Iterator[AppServer]:
    conf, env = {"models": "test"}, {"OMP_NUM_THREADS": "1"}
    with start_server(hospital.app, hospital.studies, hospital.folder / "server", conf=conf, env=env) as running:
        yield running


def predicted(server: AppServer) -> dict[str, Any] | None:
    """Of a click on the middle of an image."""
    answer = requests.post(
        f"{server.url}/infer/test",
        params={"image": "patient_03", "output": "json"},
        data={"params": '{"foreground": [[14, 14, 14]]}'},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    said = said.get("params", said)
    return said["predicted_dice"]  # type: ignore[no-any-return]


def submit(server: AppServer, file: Path, image: str) -> None:
    saved = requests.put(
        f"{server.url}/datastore/label",
        params={"image": image, "tag": "final"},
        data={"params": '{"label_info": [{"name": "lesion", "idx": 1}]}'},
        files={"label": (file.name, file.read_bytes())},
        timeout=60,
    )
    assert saved.status_code == 200, saved.text


def test_with_the_twentieth_label_the_server_begins_to_predict(server: AppServer, hospital: Hospital) -> None:
    assert predicted(server) is None
    submit(server, hospital.folder / "last.nii.gz", "patient_19")
    deadline = time.monotonic() + DEADLINE_S
    while (said := predicted(server)) is None:
        assert time.monotonic() < deadline, server.running.log_tail()
        time.sleep(0.3)
    assert said["patients"] == 20 and 0 <= said["at_least"] <= said["dice"] <= 1
    task = requests.get(f"{server.url}/scoring/", timeout=60).json()
    assert task["request"]["method"] == "predicted_dice"
