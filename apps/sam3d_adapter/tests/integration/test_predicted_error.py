"""Next Sample by predicted error through the real server, which clicks on the images in a process beside it."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests

from lib.activelearning.first_clicks import FirstClicks
from lib.activelearning.predicted_error import FIRST_LABELS
from lib.files.checksums import file_sha256
from lib.workflow.database import database_beside
from lib.workflow.scores import Score, read_scores
from lib.workflow.served import STRATEGY, read_served
from tests.support.server import AppServer, start_server
from tests.support.small_app import copy_small_app
from tests.support.weights import write_test_weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DEADLINE_S = 300
LABELLED = [f"labelled_{number}" for number in range(FIRST_LABELS)]
POOL = [f"pool_{number}" for number in range(3)]
SHAPE = (20, 18, 16)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """A server of three images, one that is torn, and those that are labelled during the tests."""
    folder = tmp_path_factory.mktemp("predicted_error")
    studies = folder / "studies"
    studies.mkdir()
    for number, name in enumerate([*LABELLED, *POOL]):
        noise = np.random.default_rng(number).normal(40, 60, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), studies / f"{name}.nii.gz")
    (studies / "torn.nii.gz").write_bytes((studies / "pool_0.nii.gz").read_bytes()[:-400])
    conf = {"models": "test", "strategy": "predicted_error", "random_share": "0"}
    app = copy_small_app(folder / "app")
    write_test_weights(app / "weights", seed=2)  # those find something wherever one clicks
    with start_server(app, studies, folder / "server", conf=conf, env={"OMP_NUM_THREADS": "1"}) as running:
        yield running


def kept(server: AppServer) -> dict[str, dict[str, Score]]:
    """The scores of the weights that are there."""
    version = file_sha256(server.app_dir / "weights/test_weights.safetensors")
    with database_beside(server.folder.parent / "studies").reading() as connection:
        return read_scores(connection, "test", version)


def clicked(server: AppServer) -> dict[str, FirstClicks | None]:
    return {name: FirstClicks.of_numbers(score.numbers) for name, score in kept(server).get("lesion", {}).items()}


def until(holds: Callable[[], Any], server: AppServer) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, server.running.log_tail()
        time.sleep(0.2)


def submit(server: AppServer, image: str) -> None:
    label = server.folder / "label.nii.gz"
    block = np.zeros(SHAPE, np.uint8)
    block[8:13, 7:12, 6:11] = 1
    nib.save(nib.Nifti1Image(block, np.eye(4)), label)
    saved = requests.put(
        f"{server.url}/datastore/label",
        params={"image": image, "tag": "final"},
        data={"params": '{"label_info": [{"name": "lesion", "idx": 1}]}'},
        files={"label": (label.name, label.read_bytes())},
        timeout=60,
    )
    assert saved.status_code == 200, saved.text


def next_sample(server: AppServer, who: str) -> str:
    answer = requests.post(f"{server.url}/activelearning/random", json={"client_id": who}, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def test_the_server_clicks_by_itself_and_serves_what_it_found(server: AppServer) -> None:
    for name in LABELLED:
        submit(server, name)
    until(lambda: set(clicked(server)) >= {*POOL, "torn"}, server)
    found = clicked(server)
    assert found["torn"] is None, "a case that cannot be scored costs itself alone"
    assert all((one := found[name]) is not None and one.is_found for name in POOL)
    given = [next_sample(server, who) for who in ("anna", "ben", "carl", "dora")]
    assert set(given[:3]) == set(POOL) and given[3] == "torn"
    with database_beside(server.folder.parent / "studies").reading() as connection:
        served = read_served(connection)
    assert [(one.image, one.strategy) for one in served] == [(image, "predicted_error") for image in given]
    assert [one.arm for one in served[:3]] == [STRATEGY] * 3
    answer = requests.get(f"{server.url}/scoring/", timeout=60).json()
    assert answer["request"]["method"] == "predicted_error"


def test_other_weights_make_the_server_click_anew(server: AppServer) -> None:
    before = clicked(server)
    write_test_weights(server.app_dir / "weights", seed=1)
    assert clicked(server) == {}
    # While an earlier scoring still ends, the next question begins it.
    until(lambda: next_sample(server, "anna") and set(clicked(server)) >= {*POOL, "torn"}, server)
    assert all(clicked(server)[name] != before[name] for name in POOL)
