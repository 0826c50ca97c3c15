"""A server ends when it is told to, and its tasks end with it, however it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import requests

from lib.host.process.launch import (
    LaunchError,
    free_port,
    is_loopback,
    require_free_port,
    server_command,
    server_environment,
    url_of,
    wait_for_answer,
)
from tests.support.noise_site import AFFINE, CLICK, SHAPE, copy_app
from tests.support.server import AppServer, start_server

pytestmark = pytest.mark.timeout(400)

APP = Path(__file__).parents[3]
DEADLINE_S = 120

# The child of a server, with a child of its own; both would go on for minutes.
TASK = """
import subprocess, sys, time
from lib.host.process.ending import end_with_server
end_with_server()
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print(inner.pid, flush=True)
time.sleep(300)
"""
SERVER = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what runs in the background ignore it
os.environ["SAM3D_ADAPTER_SERVER_PID"] = str(os.getpid())
child = subprocess.Popen([sys.executable, "-c", {TASK!r}], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline(), flush=True)
time.sleep(300)
"""


def wait_gone(pids: list[int]) -> None:
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=DEADLINE_S)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_task_and_its_children_end_with_the_server(number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(APP)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], env=environment, stdout=subprocess.PIPE, start_new_session=True
    ) as server:
        assert server.stdout is not None
        task, inner = map(int, server.stdout.readline().split())
        server.send_signal(number)
        server.wait(DEADLINE_S)
    wait_gone([task, inner])


def test_a_task_whose_server_ended_before_it_began_ends() -> None:
    environment = {**os.environ, "PYTHONPATH": str(APP), "SAM3D_ADAPTER_SERVER_PID": str(os.getppid())}
    with subprocess.Popen([sys.executable, "-c", TASK], env=environment, stdout=subprocess.PIPE) as task:
        assert task.wait(DEADLINE_S) == -signal.SIGKILL
        assert task.stdout is not None
        if inner := task.stdout.readline():
            wait_gone([int(inner)])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AppServer]:
    studies = tmp_path / "studies"
    studies.mkdir()
    image = np.random.default_rng(0).normal(40, 60, SHAPE).astype(np.int16)
    for number in range(300):
        nib.save(nib.Nifti1Image(image, AFFINE), studies / f"case_{number}.nii")
    with start_server(copy_app(tmp_path), studies, tmp_path / "server", conf={"models": "test"}) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_server_ends_with_an_open_upload_and_takes_its_batch_along(
    server: AppServer, number: signal.Signals
) -> None:
    assert requests.post(f"{server.url}/batch/infer/test", json={"foreground": [CLICK]}, timeout=60).status_code == 200
    deadline = time.monotonic() + DEADLINE_S
    while not (requests.get(f"{server.url}/batch/infer", timeout=60).json()["progress"] or {}).get("done"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process = server.running.process
    children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert children
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as upload:
        head = "PUT /datastore/image HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        upload.sendall(f"{head}Content-Length: 1000000\r\n\r\n--x\r\n".encode())
        # The server has taken up the upload when it has answered what was sent after it.
        assert requests.get(f"{server.url}/info/", timeout=60).status_code == 200
        process.send_signal(number)
        process.wait(DEADLINE_S)
    wait_gone(children)


@pytest.mark.slow
def test_an_address_of_version_6(tmp_path: Path) -> None:
    try:
        port = free_port("::1")
    except OSError:
        pytest.skip("needs a machine with IPv6")
    studies, log = tmp_path / "studies", tmp_path / "log"
    studies.mkdir()
    app = copy_app(tmp_path)
    require_free_port(port, "::1")
    command = server_command(app, studies, port=port, host="::1", conf={"models": "test"})
    environment = server_environment({"MONAI_LABEL_TRACKING_ENABLED": "false"})
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out)
    try:
        wait_for_answer(process, f"{url_of('::1', port)}/info/", log_path=log, timeout_s=DEADLINE_S)
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken, pytest.raises(LaunchError, match="::1"):
            require_free_port(taken.getsockname()[1], "::1")
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.1.2.3", "localhost", "::1")),
        *((host, False) for host in ("0.0.0.0", "::", "192.0.2.7", "2001:db8::1", "no such name")),
    ],
)
def test_who_reaches_an_address(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
