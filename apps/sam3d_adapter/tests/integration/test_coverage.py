"""Next Sample by coverage through the real server, which scores the images in a process beside it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests

from lib.activelearning.coverage import vectors
from lib.files.checksums import file_sha256
from lib.workflow.database import database_beside
from lib.workflow.scores import WHOLE, Score, read_scores
from lib.workflow.served import RANDOM, STRATEGY, Served, read_served
from tests.support.server import AppServer, start_server
from tests.support.small_app import copy_small_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DEADLINE_S = 300
ALIKE = [f"alike_{number}" for number in range(8)]
SHAPE = (24, 22, 20)


def write(folder: Path, name: str, value: int) -> Path:
    path = folder / f"{name}.nii.gz"
    noise = np.random.default_rng(value).normal(value, 30, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), path)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("coverage")
    studies = folder / "studies"
    studies.mkdir()
    for number, name in enumerate(ALIKE):
        write(studies, name, 20 + 2 * number)
    write(studies, "odd", 220)
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8, 2), np.int16), np.eye(4)), studies / "four_d.nii.gz")
    conf = {"models": "test", "strategy": "coverage", "random_share": "0.5"}
    app = copy_small_app(folder / "app")
    with start_server(app, studies, folder / "server", conf=conf, env={"OMP_NUM_THREADS": "1"}) as running:
        yield running


def studies(server: AppServer) -> Path:
    return server.folder.parent / "studies"


def scores(server: AppServer) -> dict[str, Score]:
    version = file_sha256(server.app_dir / "weights/test_weights.safetensors")
    with database_beside(studies(server)).reading() as connection:
        return read_scores(connection, "test", version).get(WHOLE, {})


def served(server: AppServer) -> list[Served]:
    with database_beside(studies(server)).reading() as connection:
        return read_served(connection)


def until(holds: Callable[[], Any], server: AppServer) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, server.running.log_tail()
        time.sleep(0.2)


def next_sample(server: AppServer, who: str) -> str:
    answer = requests.post(f"{server.url}/activelearning/random", json={"client_id": who}, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def chosen_by_hand(features: dict[str, np.ndarray], rest: set[str], covered: set[str]) -> str:
    every = np.stack(list(features.values()))
    deviation = np.where(every.std(axis=0) > 0, every.std(axis=0), 1)

    def left(one: str) -> float:
        """How far all images lie from a covered one, if this one is taken."""
        apart = {
            (image, other): float(np.linalg.norm((features[image] - features[other]) / deviation))
            for image in features
            for other in covered | {one}
        }
        return sum(min(apart[image, other] for other in covered | {one}) for image in features)

    return min(sorted(rest), key=left)


def test_the_server_scores_by_itself_and_serves_what_stands_for_most(server: AppServer) -> None:
    until(lambda: set(scores(server)) == {*ALIKE, "odd", "four_d"}, server)
    found = vectors(scores(server))
    assert set(found) == {*ALIKE, "odd"}, "a case that cannot be scored costs itself alone"
    assert "cannot be scored" in server.log_path.read_text()
    label = server.folder / "label.nii.gz"
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), np.eye(4)), label)
    saved = requests.put(
        f"{server.url}/datastore/label",
        params={"image": "alike_0", "tag": "final"},
        files={"label": (label.name, label.read_bytes())},
        timeout=60,
    )
    assert saved.status_code == 200, saved.text
    rest, covered = {*ALIKE, "odd"} - {"alike_0"}, {"alike_0"}
    given = [next_sample(server, who) for _ in range(3) for who in ("anna", "ben")]
    assert len(set(given)) == 6, "two annotators never have the same"
    kept = served(server)
    assert [one.image for one in kept] == given and {one.strategy for one in kept} == {"coverage"}
    assert {one.arm for one in kept} == {STRATEGY, RANDOM}
    for one in kept:
        if one.arm == STRATEGY:
            assert one.image == chosen_by_hand(found, rest, covered & set(found))
        rest, covered = rest - {one.image}, covered | {one.image}


def test_an_image_that_comes_later_is_scored(server: AppServer) -> None:
    file = write(server.folder, "late", 300)
    added = requests.put(
        f"{server.url}/datastore/", params={"image": "late"}, files={"file": (file.name, file.read_bytes())}, timeout=60
    )
    assert added.status_code == 200, added.text
    # The next question finds it; while an earlier scoring still ends, the one after that does.
    until(lambda: next_sample(server, "carl") and "late" in scores(server), server)
    assert vectors(scores(server))["late"].size
    answer = requests.get(f"{server.url}/scoring/", timeout=60).json()
    assert answer["request"]["method"] == "coverage"
