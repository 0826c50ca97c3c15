"""The loop of learning through the real server: submit, train, publish, click; stop, go on, refuse."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml
from monailabel.client.client import MONAILabelClientException

from lib.phantoms.data_set import save_volume
from lib.registry.registry import Registry
from tests.support.hospital import AFFINE, SIDE
from tests.support.server import AppServer, start_server
from tests.support.small_app import copy_small_app, small_preset

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    # MONAI Label's client closes no connection.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
]

PATIENTS = 20


def patient(number: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Image, label and the middle of what is labelled."""
    rng = np.random.default_rng(number)
    labels = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    low = rng.integers(5, 11, 3)
    labels[tuple(slice(a, a + 10) for a in low)] = 1
    return (60 * labels + rng.normal(0, 10, labels.shape)).astype(np.int16), labels, [int(a) + 5 for a in low]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("learning")
    app = copy_small_app(folder / "app")
    # One that has nothing to learn from, and one without weights.
    others = {"cyst": small_preset(), "bare": small_preset(weights="weights/bare.safetensors")}
    for name, preset in others.items():
        (app / f"configs/{name}.yaml").write_text(yaml.safe_dump(preset | {"label": name}), encoding="utf-8")
    studies = folder / "studies"
    studies.mkdir()
    with start_server(app, studies, folder) as running:
        for number in range(PATIENTS + 1):
            image, labels, _ = patient(number)
            save_volume(folder / f"p{number}.nii.gz", image, AFFINE)
            running.client.upload_image(str(folder / f"p{number}.nii.gz"), f"p{number}")
            if number < PATIENTS:
                submit(running, number, labels)
        yield running


def submit(server: AppServer, number: int, labels: np.ndarray) -> None:
    path = server.folder / "label.nii.gz"
    save_volume(path, labels, AFFINE)
    named = {"label_info": [{"name": "lesion", "idx": 1}]}
    server.client.save_label(f"p{number}", str(path), params=named)


def correct(server: AppServer) -> None:
    """A label that no training has seen."""
    _, labels, _ = patient(0)
    outside = np.argwhere(labels == 0)
    labels[tuple(outside[int.from_bytes(os.urandom(4)) % len(outside)])] = 1
    submit(server, 0, labels)


def click(server: AppServer) -> dict[str, Any]:
    _, answer = server.client.infer("test", f"p{PATIENTS}", {"foreground": [patient(PATIENTS)[2]]})
    return dict(answer)


def wait(server: AppServer, seconds: float = 240) -> dict[str, Any]:
    """The training's end, and the stats that viewers show."""
    began = time.monotonic()
    while (status := server.client.train_status(False)["status"]) in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() - began < seconds, server.running.log_tail(60)
        time.sleep(0.5)
    return {"status": status, **server.info()["train_stats"].get("test", {})}


def train(server: AppServer, **params: Any) -> requests.Response:
    return requests.post(f"{server.url}/train/test", json=params, timeout=60)


def folder_of(server: AppServer) -> Path:
    return Registry(server.app_dir / "model").of("test", "test").folder


@pytest.mark.parametrize(
    ("params", "words"),
    [({"train_ds": ["/etc/passwd"]}, "Unknown key"), ({"max_epochs": -3}, "max_epochs"), ({"parent": "v9"}, "parent"),
     ({"model": "../x"}, "address")],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_starts(server, params, words):
    answer = train(server, **params)
    assert answer.status_code == 422 and words in answer.text
    assert requests.post(f"{server.url}/train/test?run_sync=true", json={}, timeout=60).status_code == 422
    assert requests.post(f"{server.url}/train/nothing", json={}, timeout=60).status_code == 404


def test_a_stopped_training_is_gone_on_with_and_what_it_made_answers(server):
    before = click(server)
    assert before["version"] == "shipped"
    assert train(server, max_epochs=2, started_by="Dr. Roe").status_code == 200
    state = None
    began = time.monotonic()
    while state is None:
        assert time.monotonic() - began < 400, server.running.log_tail(60)
        state = next(folder_of(server).glob("runs/*/test_state.pt"), None)
        # Clicks are answered all the while.
        assert click(server)["version"] == "shipped"
    assert requests.delete(f"{server.url}/train/", timeout=60).status_code == 200
    assert wait(server)["status"] == "STOPPED"
    run = state.parent.name
    assert train(server, max_epochs=2, started_by="Dr. Roe").status_code == 200
    stats = wait(server)
    assert stats["status"] == "DONE" and stats["stage"] == "done", server.running.log_tail(60)
    assert stats["epoch"] == stats["total_epochs"] == 2 and stats["best_metric"] > 0.5
    assert stats["published"], stats["reasons"]
    after = click(server)
    assert after["version"] == stats["version"] and after["model_version"] != before["model_version"]
    version = Registry(server.app_dir / "model").of("test", "test").get(after["version"])
    assert version.started_by == "Dr. Roe" and version.metrics["run"] == run
    assert version.metrics["cases"] == {"train": 12, "validation": 8}
    assert (folder_of(server) / "versions.html").is_file()
    page = requests.get(f"{server.url}/versions/test/page", timeout=60)
    assert page.status_code == 200 and after["version"] in page.text


def test_a_rollback_gives_the_old_masks_back(server):
    asked = requests.post(f"{server.url}/versions/test/roll_back", json={"by": "Dr. Roe"}, timeout=60)
    assert asked.status_code == 200 and asked.json()["served"] == "shipped"
    assert click(server)["version"] == "shipped"


def update_model(server: AppServer) -> dict[str, Any]:
    """What *Update Model* of MONAI Label's panel in OHIF asks for."""
    body = {"test": {"max_epochs": 1, "publish": False}}
    answer = requests.post(f"{server.url}/train/", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def trainings(server: AppServer) -> list[dict[str, Any]]:
    answer = requests.get(f"{server.url}/train/?all=true", timeout=60)
    return list(answer.json()) if answer.status_code == 200 else []


def test_all_trainers_at_once_as_ohif_asks(server):
    before = len(trainings(server))
    correct(server)
    first, again = update_model(server), update_model(server)
    # Pressed twice, it is one request, and one process.
    assert first["test"]["result"]["id"] == again["test"]["result"]["id"] == first["cyst"]["result"]["id"]
    assert "trained already" in again["test"]["detail"] and len(trainings(server)) == before + 1
    assert first["bare"]["result"] is None and "bare.safetensors" in first["bare"]["detail"]
    stats = wait(server)
    assert stats["status"] == "DONE" and not stats["published"] and "as it was asked for" in stats["reasons"][0]
    # Other presets had nothing to learn from: what is shown first is what was trained.
    info = server.info()
    assert list(info["train_stats"])[0] == "test" and info["train_stats"]["cyst"]["stage"] == "nothing to learn from"
    assert "stage" not in info["train_stats"]["bare"]
    # Without a new label, nothing is trained, and what was said of the last training stays.
    made = requests.get(f"{server.url}/versions/test", timeout=60).json()["versions"]
    update_model(server)
    assert wait(server) == stats
    assert requests.get(f"{server.url}/versions/test", timeout=60).json()["versions"] == made


def test_stopping_ends_all_that_was_asked_for(server):
    correct(server)
    update_model(server)
    # At once, or when it trains: whatever has begun by now ends, and nothing takes its place.
    assert requests.delete(f"{server.url}/train/", timeout=60).json()["status"] == "STOPPED"
    assert requests.get(f"{server.url}/train/?check_if_running=true", timeout=60).status_code == 404
    assert train(server, max_epochs=1).status_code == 200
    assert requests.post(f"{server.url}/train/cyst?enqueue=true", json={}, timeout=60).status_code == 200
    # One that trains a preset is not what is asked for now.
    refused = requests.post(f"{server.url}/train/", json={}, timeout=60)
    assert refused.status_code == 429 and "running already of 'test'" in refused.text
    assert requests.delete(f"{server.url}/train/", timeout=60).json()["status"] == "STOPPED"
    assert not [one for one in trainings(server) if one["status"] in ("SUBMITTED", "RUNNING")]
    assert requests.get(f"{server.url}/train/?check_if_running=true", timeout=60).status_code == 404
    assert requests.delete(f"{server.url}/train/", timeout=60).json() is None


def test_a_second_training_waits_or_is_refused(server):
    assert train(server, max_epochs=1).status_code == 200
    assert train(server, max_epochs=1).status_code == 429
    with pytest.raises(MONAILabelClientException):
        server.client.train_start("test", {"max_epochs": 1})
    requests.delete(f"{server.url}/train/", timeout=60)
    wait(server)
