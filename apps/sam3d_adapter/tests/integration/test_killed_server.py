"""A real server that is killed while it saves: it starts again, and every label that it answered for is there."""

import contextlib
import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests

from lib.files.checksums import file_sha256
from lib.studies.folder import StudiesFolder
from tests.support.hostile_images import nifti, packed, voxels
from tests.support.noise_site import SHAPE, copy_app, write_studies
from tests.support.server import AppServer, start_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = 6
IMAGES = ("case_1", "case_2")


def label(number: int) -> bytes:
    """A label that no other number has; not compressed, so that it takes a while to write."""
    values = np.zeros(SHAPE, np.uint8)
    values.reshape(-1)[: number % 40_000 + 1] = 1
    return nifti(values)


def save_until_killed(server: AppServer, first: int, image: str, answered: list[int], sent: list[int]) -> None:
    with contextlib.suppress(requests.RequestException):
        for number in range(first, first + 1000):
            sent.append(number)
            done = requests.put(
                f"{server.url}/datastore/label",
                params={"image": image, "tag": "final"},
                data={"params": json.dumps({"label_info": [{"name": f"lesion {number}", "idx": 1}]})},
                files={"label": ("x.nii", label(number))},
                timeout=30,
            )
            if done.status_code != 200:
                return
            answered.append(number)
            put = requests.put(
                f"{server.url}/datastore/image",
                params={"image": f"new_{image}_{number}"},
                files={"file": ("x.nii.gz", packed(nifti(voxels())))},
                timeout=30,
            )
            if put.status_code != 200:
                return


def test_a_server_that_is_killed_again_and_again(tmp_path: Path) -> None:
    studies, app = write_studies(tmp_path / "studies"), copy_app(tmp_path)
    chance = random.Random(0)
    answered: dict[str, list[int]] = {image: [] for image in IMAGES}
    sent: dict[str, list[int]] = {image: [] for image in IMAGES}
    for kill in range(KILLS + 1):
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(
                start_server(app, studies, tmp_path / f"server_{kill}", conf={"models": "test"})
            )
            assert server.info()["datastore"]["total"] >= 3
            for image in IMAGES:
                info = requests.get(
                    f"{server.url}/datastore/label/info", params={"label": image, "tag": "final"}, timeout=30
                )
                check(studies, image, answered[image], sent[image], info if answered[image] else None)
            if kill == KILLS:
                break
            threads = [
                threading.Thread(
                    target=save_until_killed,
                    args=(server, 1 + kill * 5000 + place * 2000, image, answered[image], sent[image]),
                )
                for place, image in enumerate(IMAGES)
            ]
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(1.0, 3.0))  # the moment of the kill
            os.kill(server.running.process.pid, signal.SIGKILL)
            for thread in threads:
                thread.join()
    assert sum(len(numbers) for numbers in answered.values()) > 2 * KILLS


def check(studies: Path, image: str, answered: list[int], sent: list[int], info: requests.Response | None) -> None:
    if info is None:
        return
    # The last one that was answered, or one that was sent after it.
    possible = [answered[-1], *sent[sent.index(answered[-1]) + 1 :]]
    name = info.json()["label_info"][0]["name"]
    number = int(name.split()[1])
    assert number in possible
    assert (studies / f"labels/final/{image}.nii").read_bytes() == label(number)
    # All before it are in the history, whole and with their names.
    folder = StudiesFolder(studies)
    kept = {}
    for change in folder.history(image, "final"):
        if path := folder.former(change):
            assert change.old is not None and file_sha256(path) == change.old["sha256"]
            kept[int(change.old["info"]["label_info"][0]["name"].split()[1])] = path.read_bytes()
    assert {*answered} <= {*kept, number}
    assert all(content == label(number) for number, content in kept.items())
