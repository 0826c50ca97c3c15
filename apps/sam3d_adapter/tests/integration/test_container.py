"""The real server in a control group that leaves it less memory than the machine has, as in a container."""

import gzip
from collections.abc import Iterator

import nibabel as nib
import numpy as np
import pytest
import requests

from lib.volumes.memory import SHARE
from tests.support.bombs import packed_nifti
from tests.support.memory_group import MemoryGroup, memory_group
from tests.support.noise_site import CLICK, write_studies
from tests.support.server import AppServer, start_server
from tests.support.small_app import copy_small_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LIMIT = 2**30


@pytest.fixture(scope="module")
def group() -> Iterator[MemoryGroup]:
    try:
        with memory_group() as group:
            yield group
    except OSError as error:
        pytest.skip(f"needs the right to make a control group: {error}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, group: MemoryGroup) -> Iterator[AppServer]:
    """Its network is loaded before it comes into the group, so that the limit is for images alone."""
    folder = tmp_path_factory.mktemp("container")
    with start_server(copy_small_app(folder / "app"), write_studies(folder / "studies"), folder / "server") as running:
        assert click(running).status_code == 200
        group.take(running.running.process.pid)
        group.limit(LIMIT)
        yield running


def click(server: AppServer, upload: bytes | None = None) -> requests.Response:
    files: dict = {"params": (None, f'{{"foreground": [{CLICK}]}}')}
    query = {"output": "image"}
    if upload is None:
        query["image"] = "case_1"
    else:
        files["file"] = ("a.nii.gz", upload)
    return requests.post(f"{server.url}/infer/test", params=query, files=files, timeout=120)


def test_an_image_that_the_container_has_no_room_for_is_refused(server: AppServer, group: MemoryGroup) -> None:
    # 512 MiB of voxels in int16: the machine has room for it, or the test would show nothing.
    answer = click(server, packed_nifti(640, np.int16, value=40))
    assert answer.status_code == 503, answer.text
    words = answer.json()["detail"]
    room = float(words.split("the server has ")[1].split(" GiB")[0])
    assert "GiB of memory" in words and room <= LIMIT * SHARE / 2**30
    assert group.used() < LIMIT
    assert click(server).status_code == 200


def test_one_that_fits_is_answered(server: AppServer, group: MemoryGroup) -> None:
    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(rng.normal(40, 60, (160, 160, 160)).astype(np.int16), np.eye(4))
    answer = click(server, gzip.compress(image.to_bytes(), 1))
    assert answer.status_code == 200, answer.text
    assert group.used() < LIMIT
