"""The real server, killed while it answers a batch, publishes versions and takes labels, all at once."""

import contextlib
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import requests

from lib.files.checksums import file_sha256
from lib.registry.registry import Registry
from lib.registry.version import Facts
from lib.studies.folder import StudiesFolder
from tests.support.noise_site import AFFINE, CLICK, SHAPE
from tests.support.server import AppServer, start_server
from tests.support.small_app import copy_small_app
from tests.support.trained import write_trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KILLS = 8
IMAGES = 100
# Masks that a batch saves before the kill, at most; then the kill comes in the midst of the next.
MOST_MASKS = 6
LONGEST_S = 0.05
BATCH = {"foreground": [CLICK], "result_extension": ".nii.gz"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An app, a folder of images, and three versions to publish."""
    app = copy_small_app(tmp_path / "app")
    (tmp_path / "studies").mkdir()
    for number in range(IMAGES):
        voxels = np.random.default_rng(number).normal(40, 60, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / f"studies/image_{number}.nii.gz")
    versions = Registry(tmp_path / "learning").of("test", "test")
    for seed in range(3):
        weights = write_trained(app / "weights/test_base.safetensors", tmp_path / f"{seed}.safetensors", seed=seed)
        versions.add(weights, Facts("training"))
    return tmp_path


class Client:
    """Sends the same kind of change again and again until the server is gone, and knows which were answered."""

    def __init__(self, send: Callable[[int], str]) -> None:
        self.answered: list[str] = []
        self.under_way = ""
        self._send = send
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with contextlib.suppress(requests.RequestException):
            for number in itertools.count():
                self.under_way = f"{number}"
                self.answered.append(self._send(number))

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is sent: an answer was not the expected one."""
        return not self._thread.is_alive()

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def label_of(site: Path, number: int) -> bytes:
    """A label whose drawn voxels say which one it is."""
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[2:20, 2:20, 2:20].reshape(-1)[: 100 + number] = 1
    voxels[2:20, 2:20, 2 : 3 + number % 18] = 1
    file = site / "label.nii.gz"
    nib.save(nib.Nifti1Image(voxels, AFFINE), file)
    return file.read_bytes()


def test_killed_while_it_does_everything_at_once(site: Path) -> None:
    chance, ids = random.Random(0), Registry(site / "learning").of("test", "test").ids()
    served, label = {"shipped"}, {b""}
    for kill in range(KILLS):
        with serve(site, kill) as server:
            sent: list[bytes] = []

            def publish(number: int, server: AppServer = server) -> str:
                name = ids[number % 3]
                answer = requests.post(f"{server.url}/versions/test/{name}/publish", json={"by": "Erika"}, timeout=60)
                assert answer.status_code == 200, answer.text
                return name

            def submit(number: int, server: AppServer = server, sent: list[bytes] = sent, kill: int = kill) -> str:
                sent.append(label_of(site, 1000 * kill + number))
                answer = requests.put(
                    f"{server.url}/datastore/label",
                    params={"image": "image_0", "tag": "final"},
                    data={"params": json.dumps({"label_info": [{"name": "lesion", "idx": 1}]})},
                    files={"label": ("label.nii.gz", sent[-1])},
                    timeout=60,
                )
                assert answer.status_code == 200, answer.text
                return "saved"

            masks = masks_of(site)
            body = BATCH | {"images": sorted({f"image_{number}" for number in range(IMAGES)} - masks)}
            batch = requests.post(f"{server.url}/batch/infer/test", json=body, timeout=60)
            assert batch.status_code == 200, batch.text
            with Client(publish) as publisher, Client(submit) as submitter:
                enough = len(masks) + chance.randint(1, MOST_MASKS)
                while len(masks_of(site)) < enough and not publisher.has_ended:
                    time.sleep(0.01)
                time.sleep(chance.uniform(0, LONGEST_S))  # the moment of the kill
                batches = psutil.Process(server.running.process.pid).children(recursive=True)
                os.kill(server.running.process.pid, signal.SIGKILL)
            assert not psutil.wait_procs(batches, timeout=60)[1], "a batch goes on without its server"
        if publisher.answered:
            served = {publisher.answered[-1]}
        served.add(ids[len(publisher.answered) % 3])
        if submitter.answered:
            label = {sent[len(submitter.answered) - 1]}
        label |= {sent[-1]}
        require_whole(site, served, label)
    assert KILLS <= len(masks_of(site)) < IMAGES, "each batch has saved masks, and none all"
    with serve(site, KILLS) as server:
        assert requests.get(f"{server.url}/info/", timeout=60).status_code == 200


def masks_of(site: Path) -> set[str]:
    """Images that have a mask of a batch."""
    return {path.name.removesuffix(".nii.gz") for path in (site / "studies/labels/original").glob("*.nii.gz")}


def require_whole(site: Path, served: set[str], label: set[bytes]) -> None:
    """Passes if versions, labels, masks and index are as they were answered."""
    versions = Registry(site / "learning").of("test", "test")
    state = versions.state().served
    assert state in served and versions.problems() == []
    assert state == "shipped" or versions.verify(state)
    folder = StudiesFolder(site / "studies")
    folder.open()
    index = folder.index()["objects"]
    assert len(index) == IMAGES
    final = site / "studies/labels/final/image_0.nii.gz"
    assert (final.read_bytes() if final.exists() else b"") in label
    assert ("final" in index["image_0"]["labels"]) == final.exists()
    for tag in ("final", "original"):
        for path in (site / "studies/labels" / tag).glob("*.nii.gz"):
            image = path.name.removesuffix(".nii.gz")
            assert np.asarray(nib.load(path).dataobj).shape == SHAPE
            note = json.loads(path.with_name(f"{image}.json").read_text())
            assert note["sha256"] == file_sha256(path) and tag in index[image]["labels"]
    for change in folder.history():
        if (former := folder.former(change)) is not None:
            assert change.old is not None and change.old["sha256"] == file_sha256(former)


@contextlib.contextmanager
def serve(site: Path, number: int) -> Iterator[AppServer]:
    """One of the servers of a campaign."""
    conf = {"learning_dir": str(site / "learning"), "precision": "fp32"}
    with start_server(site / "app", site / "studies", site / f"server_{number}", conf=conf) as running:
        yield running
