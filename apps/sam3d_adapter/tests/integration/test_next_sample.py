"""Next Sample through the application, as viewers ask for it."""

import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.client import MONAILabelClient

from tests.support.live_app import LiveApp
from tests.support.noise_site import AFFINE, SHAPE

# MONAI Label's client does not close its connections.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


def ask(live: LiveApp, body: object, strategy: str = "random") -> dict:
    answer = live.ask("POST", f"/activelearning/{strategy}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_annotators_get_different_cases_until_one_is_labelled(live: LiveApp, tmp_path: Path) -> None:
    given = [ask(live, {"client_id": who}) for who in ("anna", "ben")]
    # As Slicer's plug-in does it, through MONAI Label's own client.
    client = MONAILabelClient(live.url, tmpdir=str(tmp_path), client_id="carl")
    given.append(client.next_sample("least_recently_served", {}))
    assert sorted(one["id"] for one in given) == ["case_1", "case_2", "four_d"]
    assert all(Path(one["path"]).is_file() for one in given)
    # OHIF names nobody, and all are taken.
    assert ask(live, {}) == ask(live, None) == {}
    mine = next(one["id"] for one in given if one["id"] != "four_d")
    who = ("anna", "ben", "carl")[[one["id"] for one in given].index(mine)]
    label = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE), label)
    with label.open("rb") as file:
        saved = live.ask("PUT", f"/datastore/label?image={mine}&tag=final", files={"label": ("label.nii.gz", file)})
    assert saved.status_code == 200, saved.text
    assert ask(live, {"client_id": who}) == {}
    assert live.ask("DELETE", f"/datastore/label?id={mine}&tag=final").status_code == 200
    # The data store hears of its files from a watcher, a moment later.
    deadline = time.monotonic() + 10
    while not (answer := ask(live, {"client_id": "dora"})) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer["id"] == mine
    assert ask(live, {"client_id": "dora"}, "shuffled")["id"] == mine, "there is no other for her"


def test_viewers_are_told_the_strategies(live: LiveApp) -> None:
    strategies = live.ask("GET", "/info/").json()["strategies"]
    assert set(strategies) == {
        "random",
        "least_recently_served",
        "shuffled",
        "coverage",
        "foreground",
        "predicted_error",
    }
    assert "30 minutes" in strategies["random"]["description"]
