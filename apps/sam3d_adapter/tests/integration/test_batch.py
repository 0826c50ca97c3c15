"""Batches through the real server, on a machine without GPU: what is saved, what is refused, how far they are."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests

from tests.support.noise_site import CLICK, SHAPE, copy_app, write_studies
from tests.support.server import AppServer, start_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PROMPTS = {"foreground": [CLICK], "result_extension": ".nii.gz"}
DEADLINE_S = 240


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("batch")
    studies = write_studies(folder / "studies")
    with start_server(copy_app(folder), studies, folder / "server", conf={"models": "test"}) as running:
        yield running


def post(server: AppServer, body: dict[str, Any] | None = None, **query: str) -> requests.Response:
    return requests.post(f"{server.url}/batch/infer/test", params=query, json=body, timeout=60)


def ended(server: AppServer) -> dict[str, Any]:
    """The newest batch, when it has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while (task := requests.get(f"{server.url}/batch/infer/", timeout=60).json())["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < deadline, task
        time.sleep(0.1)
    return dict(task)


def masks(server: AppServer, tag: str) -> list[Path]:
    return sorted((server.folder.parent / "studies/labels" / tag).glob("*.nii.gz"))


def test_a_batch_saves_originals_and_says_how_far_it_is(server: AppServer) -> None:
    finals = masks(server, "final")
    answer = post(server, PROMPTS)
    assert answer.status_code == 200, answer.text
    # Said in words while it runs, and nothing of it is lost.
    deadline = time.monotonic() + DEADLINE_S
    while requests.get(f"{server.url}/batch/infer?check_if_running=true", timeout=60).status_code == 404:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = post(server, PROMPTS)
    assert second.status_code == 429
    assert "running already of 'test'" in second.json()["detail"] and "DELETE /batch/infer" in second.json()["detail"]
    task = ended(server)
    assert task["status"] == "DONE", task
    assert (task["progress"]["done"], task["progress"]["total"]) == (3, 3)
    assert list(task["progress"]["failed"]) == ["four_d"] and "one volume" in task["progress"]["failed"]["four_d"]
    assert [path.name for path in masks(server, "original")] == ["case_1.nii.gz", "case_2.nii.gz"]
    mask = nib.load(masks(server, "original")[0])
    assert mask.shape == SHAPE and np.asarray(mask.dataobj)[tuple(CLICK)] == 1
    assert masks(server, "final") == finals
    listed = requests.get(f"{server.url}/batch/infer?all=true", timeout=60).json()
    assert listed[-1]["progress"] == task["progress"]


def test_final_labels_are_written_where_they_were_asked_for_and_never_replaced(server: AppServer) -> None:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[3:6, 3:6, 3:6] = 1
    file = server.folder / "drawn.nii.gz"
    nib.save(nib.Nifti1Image(drawn, nib.load(server.folder.parent / "studies/case_1.nii.gz").affine), file)
    saved = requests.put(
        f"{server.url}/datastore/label",
        params={"image": "case_1", "tag": "final"},
        files={"label": (file.name, file.read_bytes())},
        timeout=60,
    )
    assert saved.status_code == 200, saved.text
    before = file.read_bytes()
    assert post(server, PROMPTS | {"label_tag": "final", "save_label": True}).status_code == 200
    task = ended(server)
    assert task["status"] == "DONE", task
    assert sorted(task["progress"]["failed"]) == ["case_1", "four_d"]
    assert "final label" in task["progress"]["failed"]["case_1"]
    assert [path.name for path in masks(server, "final")] == ["case_1.nii.gz", "case_2.nii.gz"]
    assert masks(server, "final")[0].read_bytes() == before


def test_nothing_is_saved_where_that_was_asked_for(server: AppServer) -> None:
    body = PROMPTS | {"save_label": False, "label_tag": "trial", "images": ["case_1"], "device": "cpu"}
    assert post(server, body).status_code == 200
    task = ended(server)
    assert task["status"] == "DONE" and task["progress"] == {"done": 1, "total": 1, "failed": {}}
    assert masks(server, "trial") == []


def test_a_batch_without_prompts_says_of_each_image_what_is_missing(server: AppServer) -> None:
    # The host's own body: a GPU, all of them, labels saved as originals.
    assert post(server).status_code == 200
    task = ended(server)
    assert task["status"] == "ERROR"
    assert sorted(task["progress"]["failed"]) == ["case_1", "case_2", "four_d"]
    assert "No foreground click" in task["progress"]["failed"]["case_1"]


@pytest.mark.parametrize(
    ("body", "query", "words"),
    [
        (PROMPTS, {"run_sync": "true"}, ("run_sync", "GET /batch/infer")),
        (PROMPTS | {"label_tag": "final"}, {}, ("final labels", "save_label")),
        (PROMPTS | {"label_tag": "final", "save_label": "false"}, {}, ("final labels",)),
        (PROMPTS | {"device": "cuda:7"}, {}, ("cuda:7", "cpu")),
        (PROMPTS | {"save_label": "perhaps"}, {}, ("save_label", "true or false")),
    ],
)
def test_refused(server: AppServer, body: dict[str, Any], query: dict[str, str], words: tuple[str, ...]) -> None:
    def begun() -> list[Any]:
        answer = requests.get(f"{server.url}/batch/infer?all=true", timeout=60)
        return answer.json() if answer.status_code == 200 else []

    before = len(begun())
    answer = post(server, body, **query)
    assert answer.status_code == 422, answer.text
    assert all(word in answer.json()["detail"] for word in words), answer.text
    assert len(begun()) == before
