"""What a training leaves out, and why, where people look: the status, the statistics, the page, the log."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from lib.phantoms.data_set import save_volume
from tests.e2e.test_learning import patient
from tests.support.hospital import AFFINE
from tests.support.server import AppServer, copy_app, start_server
from tests.support.small_app import small_preset, write_small_weights

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    # MONAI Label's client closes no connection.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """With a preset for CT and one for MR."""
    folder = tmp_path_factory.mktemp("left_out")
    presets = {"test": small_preset(), "other": small_preset() | {"modality": "MR"}}
    texts = {name: yaml.safe_dump(preset) for name, preset in presets.items()}
    app = copy_app(folder / "app", presets=texts, keep_presets=False)
    write_small_weights(app / "weights")
    studies = folder / "studies"
    studies.mkdir()
    image, labels, _ = patient(0)
    save_volume(studies / "Erika.nii.gz", image, AFFINE)
    save_volume(studies / "empty.nii.gz", image, AFFINE)
    save_volume(folder / "label.nii.gz", labels, AFFINE)
    save_volume(folder / "none.nii.gz", labels * 0, AFFINE)
    with start_server(app, studies, folder) as running:
        yield running


def stats(server: AppServer) -> dict:
    found: dict = server.info()["train_stats"]["other"]
    return found


def test_a_trial_click_makes_no_case_and_everybody_can_read_why(server: AppServer) -> None:
    click = {"foreground": [patient(0)[2]]}
    server.client.infer("test", "Erika", click)
    server.client.infer("other", "Erika", {"foreground": [[1, 1, 1]]})  # a trial
    named = {"label_info": [{"name": "lesion", "idx": 1}]}
    server.client.save_label("Erika", str(server.folder / "label.nii.gz"), params=named)
    server.client.save_label("empty", str(server.folder / "none.nii.gz"), params=named)
    assert requests.post(f"{server.url}/train/other", json={}, timeout=60).status_code == 200
    began = time.monotonic()
    while stats(server).get("stage") not in ("nothing to learn from", "failed"):
        assert time.monotonic() - began < 200, stats(server)
        time.sleep(0.5)
    expected = [
        "The label of Erika is left out: it was made with test, which is for CT; other is for MR.",
        "The label of empty is left out: it is empty.",
    ]
    assert stats(server)["stage"] == "nothing to learn from" and stats(server)["skipped"] == expected
    status = requests.get(f"{server.url}/train/", timeout=60).json()
    assert status["labels"] == {"other": {"skipped": expected}}
    page = requests.get(f"{server.url}/versions/other/page", timeout=60).text
    for sentence in expected:
        assert sentence in page
    log = Path(server.log_path).read_text()
    assert "Labels left out of the training of preset other: 1, for it is empty." in log
    assert "for it was made with test, which is for CT; other is for MR." in log
    assert not re.search(r"event=.{0,200}Erika", log)
