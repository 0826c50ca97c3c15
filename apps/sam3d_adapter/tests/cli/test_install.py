"""``pip install .``: the installed program, away from the checkout, serves a click and writes nothing into itself."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.client import MONAILabelClient

from lib.host.process.launch import free_port, stop, wait_for_answer
from tests.support.program import REPOSITORY
from tests.support.server import APP_DIR

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # MONAI Label's client closes neither its connections nor the files it uploads.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <(socket|_io):pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip put the package; without network."""
    folder = tmp_path_factory.mktemp("site") / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir"]
    done = subprocess.run([*pip, "--target", folder, REPOSITORY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def environment(packages: Path, tmp_path: Path) -> dict[str, str]:
    """Of a user whose folders are empty."""
    return {name: value for name, value in os.environ.items() if name != "SAM3D_APP"} | {
        "PYTHONPATH": str(packages),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "CUDA_VISIBLE_DEVICES": "",
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "MONAI_LABEL_SESSION_PATH": str(tmp_path / "sessions"),
        "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
    }


def sam3d(packages: Path, environment: dict[str, str], folder: Path, *arguments: str) -> str:
    command = [str(packages / "bin/sam3d"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if "__pycache__" not in path}


def test_it_brings_program_presets_and_weights(packages: Path, environment: dict[str, str], tmp_path: Path) -> None:
    assert "Commands:" in sam3d(packages, environment, tmp_path, "--help")
    assert not (tmp_path / "data").exists()
    app = packages / "sam3d/app"
    for name in ("configs", "weights", "lib", "ohif"):
        assert files(app / name) == files(APP_DIR / name)
    assert {path.name for path in app.iterdir()} - {"__pycache__"} == {"main.py", "configs", "weights", "lib", "ohif"}
    assert "served" in sam3d(packages, environment, tmp_path, "versions", "list", "--preset", "ct")
    metadata = next(packages.glob("*.dist-info/METADATA")).read_text()
    assert "Requires-Dist: monailabel==0.8.5" in metadata and "Requires-Dist: click" in metadata


def test_it_serves_a_click_from_a_folder_of_the_user(
    packages: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    before = files(packages)
    (tmp_path / "studies").mkdir()
    off = np.indices((40, 40, 40)) - 20
    voxels = np.where((off**2).sum(0) <= 8**2, 110, 20) + np.random.default_rng(0).normal(0, 12, (40, 40, 40))
    image = nib.Nifti1Image(voxels.astype(np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))
    nib.save(image, tmp_path / "studies/case_1.nii.gz")
    port, log_path = free_port(), tmp_path / "server.log"
    command = [str(packages / "bin/sam3d"), "serve", "--studies", "studies", "--port", str(port), "--preset", "ct"]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_answer(process, f"{url}/info/", log_path=log_path, timeout_s=300)
        (tmp_path / "client").mkdir()
        client = MONAILabelClient(url, tmpdir=str(tmp_path / "client"))
        assert set(client.info()["models"]) == {"ct", "proposal"}
        file, answer = client.infer("ct", "case_1", {"foreground": [[20, 20, 20]], "result_extension": ".nii.gz"})
    finally:
        stop(process)
    mask = np.asarray(nib.load(file).dataobj)
    assert mask.shape == voxels.shape and mask[20, 20, 20] == 1 and mask.sum() == answer["mask_voxels"]
    app = tmp_path / "data/sam3d_adapter"
    assert list((app / "logs/audit").glob("*.jsonl")) and (app / "model").is_dir()
    assert files(packages) == before
    options = ("--studies", "studies", "--out", "again.nii.gz")
    sam3d(packages, environment, tmp_path, "replay", answer["audit_id"], *options)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "again.nii.gz").dataobj), mask)
