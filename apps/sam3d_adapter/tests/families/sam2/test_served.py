"""SAM 2 in the real server, with random weights: asked for like any other task, corrected, replayed, evaluated."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
import torch
from requests_toolbelt import MultipartDecoder

import sam3d as sam3d_api
from lib.families.sam2.network import build_network, save_network
from tests.support.program import sam3d
from tests.support.server import AppServer, copy_app, start_server
from tests.support.slicer import CLIENT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # 3D Slicer's client closes none of its connections.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
]

PRESET = """description: Slice by slice, with random weights
label: lesion
model: {family: sam2, size: micro, weights: model/micro.safetensors}
slices: {channels: neighbours, stop_after: 2}
intensity: {mode: percentile, low: 0.5, high: 99.5}
"""
SHAPE, CLICK, BESIDE = (40, 36, 12), [20, 18, 6], [5, 5, 7]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_app(tmp_path_factory.mktemp("sam2") / "app", presets={"slices": PRESET})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network("micro")
    with torch.no_grad():
        network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(30.0)
    (folder / "model").mkdir(exist_ok=True)
    save_network(network, folder / "model/micro.safetensors", "micro", {"licence": "none", "source": "random"})
    return folder


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    (folder / "labels/final").mkdir(parents=True)
    for number in range(2):
        values = np.random.default_rng(number).normal(100, 30, SHAPE).astype(np.int16)
        truth = np.zeros(SHAPE, np.uint8)
        truth[14:26, 12:24, 4:9] = 1
        nib.save(nib.Nifti1Image(values + 60 * truth, np.diag([1, 1, 3, 1])), folder / f"noise_{number}.nii.gz")
        nib.save(nib.Nifti1Image(truth, np.diag([1, 1, 3, 1])), folder / f"labels/final/noise_{number}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def server(app: Path, studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    conf = {"models": "slices,sam2_tiny"}
    with start_server(app, studies, tmp_path_factory.mktemp("server"), conf=conf) as running:
        yield running


def click(server: AppServer, image: str, **prompts: object) -> tuple[np.ndarray, dict]:
    answer = requests.post(
        f"{server.url}/infer/slices",
        params={"image": image},
        data={"params": json.dumps({"result_extension": ".nii", **prompts})},
        timeout=300,
    )
    assert answer.status_code == 200, answer.text
    parts = MultipartDecoder.from_response(answer).parts
    said, file = sorted(parts, key=lambda part: b"filename" in part.headers[b"Content-Disposition"])
    return np.asarray(nib.Nifti1Image.from_bytes(file.content).dataobj), json.loads(said.content)


def test_clicks_box_and_undo(server: AppServer) -> None:
    first, answer = click(server, "noise_0", foreground=[CLICK])
    assert first.shape == SHAPE and first[tuple(CLICK)] == 1 and answer["slices"] == {"axis": "k", "tracked": SHAPE[2]}
    both, _ = click(server, "noise_0", foreground=[CLICK], background=[BESIDE])
    assert both[tuple(BESIDE)] == 0 and not np.array_equal(first, both)
    boxed, _ = click(server, "noise_0", box=[[10, 10, 3], [30, 30, 9]])
    outside = np.ones(SHAPE, bool)
    outside[7:34, 7:34, 2:11] = False
    assert not boxed[outside].any()
    undone, again = click(server, "noise_0", foreground=[CLICK])
    assert np.array_equal(first, undone) and again["mask_hash"] == answer["mask_hash"]


def test_users_at_once_get_what_each_gets_alone(server: AppServer) -> None:
    asked = [(f"noise_{n % 2}", [[20 + n, 18, 6]]) for n in range(4)]
    alone = [click(server, image, foreground=clicks)[1]["mask_hash"] for image, clicks in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: click(server, one[0], foreground=one[1])[1]["mask_hash"], asked * 2))
    assert together == alone * 2 and len(set(alone)) == 4


def test_python_its_client_and_3d_slicer_get_the_servers_mask(
    server: AppServer, app: Path, studies: Path, tmp_path: Path
) -> None:
    mask, _ = click(server, "noise_0", foreground=[CLICK], background=[BESIDE])
    by_python = sam3d_api.load("slices", device="cpu", app=app).segment(studies / "noise_0.nii.gz", [CLICK], [BESIDE])
    by_client = sam3d_api.Client(server.url).segment("slices", "noise_0", foreground=[CLICK], background=[BESIDE])
    slicer = CLIENT.MONAILabelClient(server.url, tmpdir=str(tmp_path), client_id="Dr. Roe")
    # 3D Slicer and MONAI Label's panel in OHIF offer the tasks of this type for clicks.
    assert slicer.info()["models"]["slices"]["type"] == "deepgrow"
    sent = {"label": "lesion", "foreground": [CLICK], "background": [BESIDE], "reset_state": True}
    file, _ = slicer.infer("slices", "noise_0", sent | {"result_extension": ".nii", "result_dtype": "uint8"})
    for other in (by_python.array, by_client.array, np.asarray(nib.load(file).dataobj)):
        assert np.array_equal(other, mask)


def test_without_weights_it_says_what_to_fetch(server: AppServer) -> None:
    refused = requests.post(
        f"{server.url}/infer/sam2_tiny",
        params={"image": "noise_0"},
        data={"params": json.dumps({"foreground": [CLICK]})},
        timeout=60,
    )
    detail = refused.json()["detail"]
    assert refused.status_code == 503 and "sam2.1_hiera_tiny.pt" in detail and "licence Apache-2.0" in detail


def test_replayed_and_evaluated(server: AppServer, app: Path, studies: Path, tmp_path: Path) -> None:
    _, answer = click(server, "noise_1", foreground=[CLICK], background=[BESIDE])
    outcome = sam3d("replay", answer["audit_id"], "--studies", studies, app=app)
    assert outcome.returncode == 0 and "equal" in outcome.stderr, outcome.stdout + outcome.stderr
    outcome = sam3d(
        *("evaluate", "--images", studies, "--labels", studies / "labels/final", "--preset", "slices"),
        *("--out", tmp_path / "run", "--jobs", 1),
        app=app,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert json.loads((tmp_path / "run/summary.json").read_text())["n"] == 2
