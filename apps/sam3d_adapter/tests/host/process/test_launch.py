import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.host.process.key_pair import KeyPair
from lib.host.process.launch import (
    LaunchError,
    free_port,
    require_free_port,
    running_server,
    server_command,
    server_environment,
    stop,
    url_of,
    wait_for_answer,
)

# Answers 500 twice (MONAI Label does while an app fails), then 200.
SLOW_TO_ANSWER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        self.send_response(500 if Handler.asked < 3 else 200)
        self.end_headers()
    def log_message(self, *args):
        print("asked", Handler.asked, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
PARENT_OF_A_LONG_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def spawn(code: str, *args: str, stdout: int | None = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *args], stdout=stdout, start_new_session=True)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_busy_port_is_named_before_anything_starts(busy_port: int) -> None:
    with pytest.raises(LaunchError, match=rf"Port {busy_port} .*PORT="):
        require_free_port(busy_port)


@pytest.mark.parametrize("port", [-1, 70000])
def test_an_impossible_port_is_named(port: int) -> None:
    with pytest.raises(LaunchError, match=f"Port {port} "):
        require_free_port(port)


def test_a_free_port_can_be_used() -> None:
    require_free_port(free_port())


def test_a_folder_without_app_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(LaunchError, match=r"main\.py is missing"),
        running_server(tmp_path, tmp_path, log_path=tmp_path / "log"),
    ):
        pass


def test_values_with_spaces_stay_one_argument(tmp_path: Path) -> None:
    command = server_command(tmp_path / "my app", "http://pacs/dicom-web", port=8001, conf={"models": '["ct", "mr"]'})
    assert command[0] == sys.executable and command[2] == "start_server"
    assert Path(command[1]).name == "server_process.py" and Path(command[1]).is_file()
    assert command[3:] == [
        *("--app", str(tmp_path / "my app"), "--studies", "http://pacs/dicom-web"),
        *("--host", "127.0.0.1", "--port", "8001", "--conf", "models", '["ct", "mr"]'),
    ]


def test_certificate_and_key_are_handed_on(tmp_path: Path) -> None:
    pair = KeyPair(tmp_path / "server.pem", tmp_path / "server.key")
    command = server_command(tmp_path, "studies", port=8001, tls=pair)
    assert command[-4:] == ["--ssl_certfile", str(pair.certificate), "--ssl_keyfile", str(pair.key)]
    assert url_of("::1", 8001, "https") == "https://[::1]:8001"


@pytest.mark.parametrize(("chosen", "expected"), [(None, "false"), ("true", "true")])
def test_the_environment_mends_defaults_but_leaves_choices(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, expected: str
) -> None:
    monkeypatch.delenv("MONAI_LABEL_AUTO_UPDATE_SCORING", raising=False)
    if chosen is not None:
        monkeypatch.setenv("MONAI_LABEL_AUTO_UPDATE_SCORING", chosen)
    env = server_environment({"OMP_NUM_THREADS": "1"})
    assert env["MONAI_LABEL_AUTO_UPDATE_SCORING"] == expected
    assert env["OMP_NUM_THREADS"] == "1" and env["OMP_WAIT_POLICY"] == "PASSIVE"
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_waits_until_the_answer_is_200(tmp_path: Path) -> None:
    port = free_port()
    process = spawn(SLOW_TO_ANSWER, str(port))
    waited: list[float] = []
    try:
        wait_for_answer(
            process, f"http://127.0.0.1:{port}/info/", log_path=tmp_path / "log", timeout_s=30, on_wait=waited.append
        )
    finally:
        stop(process)
    assert len(waited) >= 3
    assert waited == sorted(waited)


def test_a_server_that_ends_is_reported_with_its_log(tmp_path: Path) -> None:
    log_path = tmp_path / "log"
    log_path.write_text("starting\nNo such preset: xyz\n")
    process = spawn("raise SystemExit(3)")
    with pytest.raises(LaunchError, match=r"(?s)exit status 3.*No such preset: xyz"):
        wait_for_answer(process, f"http://127.0.0.1:{free_port()}/info/", log_path=log_path, timeout_s=30)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    process = spawn("import time; time.sleep(600)")
    try:
        with pytest.raises(LaunchError, match=r"did not answer .* in 1 s"):
            wait_for_answer(process, f"http://127.0.0.1:{free_port()}/", log_path=tmp_path / "none", timeout_s=1)
    finally:
        stop(process)


def test_stop_reaches_the_processes_the_server_started() -> None:
    process = spawn(PARENT_OF_A_LONG_CHILD, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        child = int(process.stdout.readline())
    assert alive(child)
    stop(process)
    assert process.returncode is not None
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)
