"""``make demo`` and ``make serve`` as a user gives them: with an own folder of images, through the Makefile."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from demo import APP_DIR, REPOSITORY
from lib.host.process.launch import free_port, require_free_port, stop, wait_for_answer
from lib.presets import load_preset

PRESET = load_preset(APP_DIR / "configs" / "mr.yaml")
SHAPE, SPACING_MM, RADIUS_MM = (60, 50, 30), (1.0, 1.2, 2.0), 12.0
CENTRE, CLICK = (36, 20, 13), (40, 17, 14)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (APP_DIR / PRESET.model.file("weights")).is_file(),
        reason=f"{PRESET.model.file('weights')} is not in this checkout",
    ),
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the two commands run of this checkout, copied, because they write into it."""
    folder = tmp_path / "checkout"
    without = shutil.ignore_patterns("__pycache__", "tests", "model", "logs", "bin", "out")
    for part in (APP_DIR.relative_to(REPOSITORY), Path("demo"), Path("sam3d")):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=without)
    shutil.rmtree(folder / "demo/studies", ignore_errors=True)  # phantoms of earlier demos
    shutil.copy(REPOSITORY / "Makefile", folder)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two volumes, the label of one beside them: a bright ball around `CENTRE`."""
    images, labels = tmp_path / "my images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    off = [(np.arange(n) - c) * mm for n, c, mm in zip(SHAPE, CENTRE, SPACING_MM, strict=True)]
    ball = off[0][:, None, None] ** 2 + off[1][:, None] ** 2 + off[2] ** 2 <= RADIUS_MM**2
    values = np.where(ball, 110, 20) + np.random.default_rng(0).normal(0, 12, SHAPE)
    affine = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    nib.save(nib.Nifti1Image(values.astype(np.int16), affine), images / "case_7.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), affine), images / "case_8.nii.gz")
    nib.save(nib.Nifti1Image(ball.astype(np.uint8), affine), labels / "case_7.nii.gz")
    return images


def start(checkout: Path, log_path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """``make``, in a process group of its own; it takes the environment of these tests for the installed one."""
    command = [
        "make",
        "--no-print-directory",
        "-C",
        str(checkout),
        f"VENV={sys.prefix}",
        "-o",
        f"{sys.prefix}/.installed",
    ]
    caches = {
        "MONAI_LABEL_SESSION_PATH": str(log_path.parent / "sessions"),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(log_path.parent / "dicom_cache"),
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "CUDA_VISIBLE_DEVICES": "",
    }
    # What a surrounding ``make`` was given must not reach this one.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    with log_path.open("wb") as log:
        return subprocess.Popen(
            [*command, *arguments], env=env | caches, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_make_demo_clicks_on_a_volume_of_ones_own(checkout: Path, images: Path, tmp_path: Path) -> None:
    """Nothing of what is given is what the command would take by itself: not the volume, the click nor the preset."""
    before, log_path = content(images), tmp_path / "demo.log"
    click = ",".join(map(str, CLICK))
    process = start(checkout, log_path, "demo", f"STUDIES={images}", "IMAGE=case_7", f"CLICK={click}", "PRESET=mr")
    try:
        status = process.wait(240)
    finally:
        stop(process)
    printed = log_path.read_text()
    assert status == 0, printed
    assert "case_7: 60 x 50 x 30 voxels of 1.00 x 1.20 x 2.00 mm; preset 'mr'" in printed
    # Axes, grid and intensities that go astray anywhere on the way leave far less of the ball.
    scores = [float(score) for score in re.findall(r"click .*Dice (\d\.\d+)", printed)]
    assert len(scores) == 2 and scores[0] > 0.85, printed
    assert f"first click  {CLICK}" in printed
    assert "Traceback" not in printed
    # Loop and training are for phantoms; nothing of the user's is written to.
    assert "The loop" not in printed
    assert content(images) == before
    out = checkout / "demo" / "out"
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "demo.png").stat().st_size > 20_000
    assert "Application startup complete" in (out / "server.log").read_text()
    assert not (out / "loop.png").exists()


def test_make_serve_answers_on_the_loopback_device_until_it_is_stopped(
    checkout: Path, images: Path, tmp_path: Path
) -> None:
    port, log_path = free_port(), tmp_path / "serve.log"
    url = f"http://127.0.0.1:{port}"
    process = start(checkout, log_path, "serve", f"STUDIES={images}", f"PORT={port}", "PRESET=mr")
    try:
        wait_for_answer(process, f"{url}/info/", log_path=log_path, timeout_s=200)
        answers = {}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for path in ("info/", "datastore/?output=all"):
            with opener.open(f"{url}/{path}", timeout=60) as response:
                answers[path] = json.load(response)
        # Listening on every address, it would answer here as well.
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", port), timeout=5)
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
        process.wait(60)
    finally:
        stop(process)
    printed = log_path.read_text()
    assert f"Ready in about 10 s at {url}/ (3D Slicer" in printed
    assert answers["info/"]["name"].startswith("3DSAM"), answers["info/"]
    assert set(answers["info/"]["models"]) == {"mr", "proposal"}
    assert set(answers["datastore/?output=all"]["objects"]) == {"case_7", "case_8"}
    require_free_port(port)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve",), "Give STUDIES=, a folder of images or http://.../dicom-web"),
        (("serve", "STUDIES=absent"), "STUDIES=absent is neither a folder nor the URL of a DICOMweb server"),
        (("demo", "STUDIES=absent", "CLICK=1,2,3"), "STUDIES=absent is not a folder"),
    ],
)
def test_what_is_missing_is_said_in_words(
    checkout: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    process = start(checkout, tmp_path / "make.log", *arguments)
    try:
        assert process.wait(120) != 0
    finally:
        stop(process)
    printed = (tmp_path / "make.log").read_text()
    assert words in printed and "Traceback" not in printed
