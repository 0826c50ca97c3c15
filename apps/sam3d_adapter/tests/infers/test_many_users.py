"""64 users on their own images, all at once, through caches that hold a few of them: nobody gets another's mask."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lib.configs.task_config import Sam3dAdapterConfig
from lib.segmenters.cache import SegmenterCache
from lib.volumes.read import VolumeCache
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.small_app import copy_small_app

USERS = 64
CLICKS = 3
SHAPE = (36, 40, 32)
VOLUME_BYTES = 2 * int(np.prod(SHAPE))
EMBEDDING_BYTES = 2**20


def dialogue(user: int) -> list[dict[str, Any]]:
    """Requests of one user: each has one click more, the last one click less again."""
    rng = np.random.default_rng(user)
    # Near enough to each other for one ROI.
    clicks = (np.array(SHAPE) // 2 + rng.integers(-4, 5, (CLICKS, 3))).tolist()
    said = [clicks[: n + 1] for n in range(CLICKS)] + [clicks[: CLICKS - 1]]
    return [{"foreground": foreground} for foreground in said]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_small_app(tmp_path_factory.mktemp("users") / "app", ("test", "unet"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    for user in range(USERS):
        image = np.random.default_rng(1000 + user).normal(40, 60, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(image, np.diag([1.0, 1.1, 1.5, 1.0])), folder / f"{user}.nii")
    return [folder / f"{user}.nii" for user in range(USERS)]


class Server:
    """The tasks of an app, and what their caches held at most.

    Args:
        app: its folder.
        volume_bytes: budget of the images.
        embedding_bytes: budget of embeddings and steps.
    """

    def __init__(self, app: Path, volume_bytes: int, embedding_bytes: int) -> None:
        config = Sam3dAdapterConfig(app, {"precision": "fp32"})
        self.volumes, self.embeddings = VolumeCache(volume_bytes), SegmenterCache(embedding_bytes)
        config._shared = replace(config._shared, volumes=self.volumes, cache=self.embeddings)
        self.tasks = config.infers()
        self.most = [0, 0]

    def ask(self, model: str, image: Path, request: dict[str, Any]) -> dict[str, Any]:
        """The answer's JSON part."""
        file, answer = self.tasks[model]({"model": model, "image": str(image), "device": "cpu", **request})
        assert file is not None
        Path(file).unlink()
        now = (self.volumes.nbytes, self.embeddings.stats().nbytes)
        self.most = [max(before, after) for before, after in zip(self.most, now, strict=True)]
        return answer


@pytest.mark.parametrize("users", [8, pytest.param(USERS, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("model", ["test", "unet"])
def test_nobody_gets_anothers_mask(app: Path, images: list[Path], model: str, users: int) -> None:
    alone = Server(app, 0, 0)
    expected = [[alone.ask(model, images[user], r)["mask_hash"] for r in dialogue(user)] for user in range(users)]
    assert alone.most == [0, 0]
    assert len({hashes[-1] for hashes in expected}) == users, "masks that are all different, or the test says nothing"

    crowd = Server(app, 5 * VOLUME_BYTES, EMBEDDING_BYTES)
    answers: dict[tuple[int, int], dict[str, Any]] = {}

    def ask(turn: tuple[int, int]) -> None:
        step, user = turn
        answers[turn] = crowd.ask(model, images[user], dialogue(user)[step])

    # All first clicks, then all second ones, each time in another order: caches see many others between two of a user.
    rng = np.random.default_rng(0)
    turns = [(step, int(user)) for step in range(CLICKS + 1) for user in rng.permutation(users)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, turns))
    for (step, user), answer in answers.items():
        assert answer["mask_hash"] == expected[user][step], (step, user)
        assert answer["clicks"] == dialogue(user)[step]["foreground"]
    assert crowd.embeddings.stats().evictions > 0
    assert 0 < crowd.most[0] <= 5 * VOLUME_BYTES and 0 < crowd.most[1] <= EMBEDDING_BYTES
