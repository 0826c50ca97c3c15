"""The seam, by families that are added as folders: served, corrected, recorded, replayed, evaluated and fine-tuned."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
import torch
from requests_toolbelt import MultipartDecoder

from lib.models.safetensors_file import write_tensors
from tests.support.server import APP_DIR, AppServer, copy_app, start_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOYS = Path(__file__).parent / "toys"
PRESETS = {
    "slicewise": """description: Slice by slice
label: ball
model: {family: slicewise, size: one, weights: weights/slicewise.safetensors}
slices: {axis: 2}
""",
    "two_labels": """description: A structure and its rim
labels: [ball, rim]
model: {family: two_labels, size: one, weights: weights/two_labels.safetensors}
""",
}
CENTRE, RADIUS = (20, 24, 16), 8


@dataclass(frozen=True)
class Site:
    """A checkout with the toys in it, and its running server."""

    checkout: Path
    app: Path
    studies: Path
    server: AppServer

    def click(self, preset: str, **params: Any) -> tuple[np.ndarray, dict[str, Any]]:
        answer = requests.post(
            f"{self.server.url}/infer/{preset}",
            params={"image": "ball_0"},
            data={"params": json.dumps({"result_extension": ".nii", **params})},
            timeout=120,
        )
        assert answer.status_code == 200, answer.text
        parts = MultipartDecoder.from_response(answer).parts
        said, file = sorted(parts, key=lambda part: b"filename" in part.headers[b"Content-Disposition"])
        return np.asarray(nib.Nifti1Image.from_bytes(file.content).dataobj), json.loads(said.content)

    def sam3d(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sam3d", *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(self.checkout)}
        return subprocess.run(
            command, cwd=self.checkout, env=environment, capture_output=True, text=True, timeout=300, check=False
        )


def ball(centre: Sequence[int] = CENTRE) -> np.ndarray:
    axes = np.ogrid[:40, :44, :32]
    return sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True)) <= RADIUS**2


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("toys").resolve()
    checkout, studies = folder / "checkout", folder / "studies"
    app = copy_app(checkout / "apps/sam3d_adapter", presets=PRESETS)
    shutil.copytree(APP_DIR.parents[1] / "sam3d", checkout / "sam3d")
    for name in PRESETS:
        shutil.copytree(TOYS / name, app / "lib/families" / name)
        write_tensors({"tolerance": torch.tensor([40.0])}, app / f"weights/{name}.safetensors", {})
    shutil.copy(TOYS / "scribble.py", app / "lib/prompts")
    (studies / "labels/final").mkdir(parents=True)
    for number in range(3):
        truth = ball((CENTRE[0] + number, CENTRE[1], CENTRE[2]))
        values = (100 * truth + np.random.default_rng(number).normal(0, 4, truth.shape)).astype(np.int16)
        nib.save(nib.Nifti1Image(values, np.eye(4)), studies / f"ball_{number}.nii.gz")
        nib.save(nib.Nifti1Image(truth.astype(np.uint8), np.eye(4)), folder / f"label_{number}.nii.gz")
    conf = {"models": "slicewise,two_labels"}
    with start_server(app, studies, folder / "server", conf=conf) as server:
        for number in range(3):
            sent = requests.put(
                f"{server.url}/datastore/label",
                params={"image": f"ball_{number}", "tag": "final"},
                data={"params": json.dumps({"label_info": [{"name": "ball", "idx": 1}]})},
                files={"label": ("label.nii.gz", (folder / f"label_{number}.nii.gz").read_bytes())},
                timeout=60,
            )
            assert sent.status_code == 200, sent.text
        yield Site(checkout, app, studies, server)


def test_only_their_folders_know_their_names() -> None:
    for name in (*PRESETS, "Scribble"):
        found = [path for path in (APP_DIR / "lib").rglob("*.py") if name in path.read_text(encoding="utf-8")]
        assert found == [], name


def test_slice_by_slice(site: Site) -> None:
    mask, answer = site.click("slicewise", foreground=[list(CENTRE)])
    assert set(np.unique(mask)) == {0, 1} and dice(mask > 0, ball()) > 0.95
    assert answer["slices"] == 32 and answer["roi"] is None and answer["label"] == "ball"
    assert answer["obeyed_by_network"] is None and answer["audit_id"]


def test_clicks_of_both_signs_protection_and_undo(site: Site) -> None:
    _, first = site.click("slicewise", foreground=[list(CENTRE)])
    beside = [CENTRE[0] + 2, CENTRE[1], CENTRE[2]]
    mask, _ = site.click("slicewise", foreground=[list(CENTRE)], background=[beside])
    assert mask[tuple(beside)] == 0
    box = [[CENTRE[0], 0, 0], [39, 43, 31]]
    halved, _ = site.click("slicewise", foreground=[list(CENTRE)], box=box)
    assert 0 < halved.sum() < mask.sum() and not halved[: CENTRE[0] - 4].any()
    assert site.click("slicewise", foreground=[list(CENTRE)])[1]["mask_hash"] == first["mask_hash"]


def test_a_kind_of_prompt_that_is_one_file(site: Site) -> None:
    mask, answer = site.click("slicewise", scribble=[list(CENTRE), [CENTRE[0], CENTRE[1] + 1, CENTRE[2]]])
    assert dice(mask > 0, ball()) > 0.95 and answer["clicks"] == []
    outcome = site.sam3d("replay", answer["audit_id"], "--image", site.studies / "ball_0.nii.gz")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    refused = requests.post(
        f"{site.server.url}/infer/slicewise",
        params={"image": "ball_0"},
        data={"params": json.dumps({"scribble": [[99, 0, 0]]})},
        timeout=60,
    )
    assert refused.status_code == 422 and "outside the image" in refused.json()["detail"]


def test_two_labels(site: Site) -> None:
    mask, answer = site.click("two_labels", foreground=[list(CENTRE)])
    assert set(np.unique(mask)) == {0, 1, 2} and dice(mask == 1, ball()) > 0.95
    assert answer["label_names"] == {"ball": 1, "rim": 2}
    assert site.server.info()["models"]["two_labels"]["labels"] == {"ball": 1, "rim": 2}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_record_is_replayed(site: Site, preset: str) -> None:
    _, answer = site.click(preset, foreground=[list(CENTRE)])
    outcome = site.sam3d("replay", answer["audit_id"], "--studies", site.studies)
    assert outcome.returncode == 0 and "equal" in outcome.stderr, outcome.stdout + outcome.stderr


@pytest.mark.parametrize("preset", PRESETS)
def test_evaluated(site: Site, preset: str, tmp_path: Path) -> None:
    outcome = site.sam3d(
        *("evaluate", "--images", site.studies, "--labels", site.studies / "labels/final", "--preset", preset),
        *("--out", tmp_path / "run", "--jobs", 1),
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["n"] == 3 and summary["dice_at"]["1"]["mean"] > 0.95


def test_trained_by_its_own_recipe(site: Site) -> None:
    trainers = site.server.info()["trainers"]
    assert "slicewise" in trainers and "two_labels" not in trainers
    train = f"{site.server.url}/train/"
    started = requests.post(f"{train}slicewise", json={"started_by": "test"}, timeout=60)
    assert started.status_code == 200, started.text
    ends = time.monotonic() + 400
    while (status := requests.get(train, timeout=60).json()["status"]) not in ("DONE", "ERROR"):
        assert time.monotonic() < ends
        time.sleep(1)
    assert status == "DONE"
    versions = requests.get(f"{site.server.url}/versions/slicewise", timeout=60).json()
    trained = [version for version in versions["versions"] if version["id"] != "shipped"]
    assert len(trained) == 1, versions
    assert trained[0]["parent"] == "shipped" and trained[0]["metrics"]["cases"]["train"] == 2
    listed = site.sam3d("versions", "list", "--preset", "slicewise")
    assert listed.returncode == 0 and trained[0]["id"] in listed.stdout, listed.stderr
