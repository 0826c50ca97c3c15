"""The real server: what is published through it or beside it answers the next click, and a rollback takes it back."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests

from lib.presets import load_preset
from lib.prompts.click import Click
from lib.prompts.prompts import Prompts
from lib.registry.registry import Registry
from lib.registry.version import Facts
from lib.registry.versions import Versions
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.volumes.mask_hash import mask_hash
from lib.volumes.read import open_volume
from tests.support.program import sam3d
from tests.support.server import AppServer, start_server
from tests.support.small_app import copy_small_app
from tests.support.trained import write_trained

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    # MONAI Label's client closes neither its connections nor the files it uploads.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
]
CLICK = [12, 10, 8]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    copy_small_app(folder / "app", ("test", "unet"))
    (folder / "studies").mkdir()
    voxels = np.random.default_rng(0).normal(40, 60, (24, 20, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, 1.2, 2.0, 1.0])), folder / "studies/case_1.nii.gz")
    return folder


@pytest.fixture(scope="module")
def versions(site: Path) -> Versions:
    """Outside of the app, with three versions."""
    versions = Registry(site / "learning").of("test", "test")
    for seed in range(3):
        path = write_trained(site / "app/weights/test_base.safetensors", site / f"{seed}.safetensors", seed=seed)
        versions.add(path, Facts("training"))
    return versions


def serve(site: Path, name: str) -> Any:
    conf = {"learning_dir": str(site / "learning"), "precision": "fp32"}
    return start_server(site / "app", site / "studies", site / name, conf=conf, timeout_s=300)


@pytest.fixture(scope="module")
def server(site: Path, versions: Versions) -> Iterator[AppServer]:
    with serve(site, "server") as running:
        yield running


def click(server: AppServer, model: str = "test") -> dict[str, Any]:
    _, answer = server.client.infer(model, "case_1", {"foreground": [CLICK], "result_extension": ".nii.gz"})
    return dict(answer)


def own_mask(site: Path, versions: Versions, version_id: str) -> str:
    """sha256 of the mask that a version gives without any registry."""
    preset = load_preset(site / "app/configs/test.yaml")
    if version_id != "shipped":
        preset = preset.with_weights(versions.weights(version_id))
    segmenter = PresetSegmenter(preset, site / "app", SharedState.of(precision="fp32"))
    image = open_volume(site / "studies/case_1.nii.gz")
    found = segmenter.segment(image, Prompts((Click((CLICK[0], CLICK[1], CLICK[2])),)), device="cpu")
    return mask_hash(found.mask)


def decide(server: AppServer, address: str) -> dict[str, Any]:
    answer = requests.post(f"{server.url}/versions/test/{address}", json={"by": "Dr. Jones"}, timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_publish_and_roll_back_through_the_server(server: AppServer, site: Path, versions: Versions) -> None:
    ids = versions.ids()
    masks = {name: own_mask(site, versions, name) for name in ("shipped", *ids)}
    assert len(set(masks.values())) == 4
    other = click(server, "unet")
    first = click(server)
    assert (first["version"], first["mask_hash"]) == ("shipped", masks["shipped"])
    for name in ids:
        assert decide(server, f"{name}/publish")["served"] == name
        answer = click(server)
        assert (answer["version"], answer["model_version"]) == (name, versions.get(name).sha256)
        assert answer["mask_hash"] == masks[name]
        assert click(server, "unet")["mask_hash"] == other["mask_hash"]
    for name in (ids[1], ids[0], "shipped"):
        assert decide(server, "roll_back")["served"] == name
        answer = click(server)
        assert (answer["version"], answer["mask_hash"]) == (name, masks[name])
        assert click(server, "unet")["mask_hash"] == other["mask_hash"]


def test_publish_by_command_beside_the_server(server: AppServer, site: Path, versions: Versions) -> None:
    for name in (versions.ids()[1], "shipped"):
        command = ("versions", "publish", name, "--preset", "test", "--by", "Dr. Jones")
        done = sam3d(*command, "--learning-dir", site / "learning", app=site / "app")
        assert done.returncode == 0, done.stderr
        assert click(server)["version"] == name
    assert "Dr. Jones" not in server.log_path.read_text()


def test_two_servers_on_one_folder_agree(server: AppServer, site: Path, versions: Versions) -> None:
    ids = versions.ids()
    with serve(site, "second") as second:
        for asked, other, name in ((server, second, ids[0]), (second, server, ids[1])):
            decide(asked, f"{name}/publish")
            assert click(asked)["version"] == click(other)["version"] == name
        decide(second, "shipped/publish")
    assert click(server)["version"] == "shipped"


def test_killed_while_it_publishes(site: Path, versions: Versions) -> None:
    ids, published = versions.ids(), 0
    with serve(site, "killed") as running:
        click(running)

        def publish_for_ever() -> None:
            nonlocal published
            with contextlib.suppress(requests.RequestException):
                while True:
                    decide(running, f"{ids[published % 3]}/publish")
                    published += 1

        thread = threading.Thread(target=publish_for_ever)
        thread.start()
        time.sleep(1.0)
        os.kill(running.running.process.pid, signal.SIGKILL)
        thread.join(60)
    assert published > 5
    state = Registry(site / "learning").of("test", "test").state()
    # The last one that was answered, or the one that was under way.
    assert state.served in (ids[(published - 1) % 3], ids[published % 3])
    assert versions.problems() == [] and versions.verify(state.served)
    with serve(site, "again") as running:
        answer = click(running)
        assert answer["version"] == state.served
        assert answer["mask_hash"] == own_mask(site, versions, state.served)
    assert not [path for path in (site / "learning").rglob("*") if path.name.startswith(".")]
