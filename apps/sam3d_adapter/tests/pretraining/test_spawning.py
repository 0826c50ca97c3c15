"""Processes end with the one that started them, however that ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.server import APP_DIR

SCRIPT = """
import sys, time
from pathlib import Path
from lib.pretraining.spawning import run_together

def work(number, folder):
    (Path(folder) / str(number)).touch()
    time.sleep(600)

if __name__ == "__main__":
    run_together(work, (sys.argv[1],), 2, refused=())
"""


@pytest.mark.slow  # starts processes that import torch
@pytest.mark.parametrize("is_interruptible", [True, False], ids=["from a terminal", "from a script, with &"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_command(tmp_path: Path, end: signal.Signals, is_interruptible: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path)]
    # A shell without job control lets what it starts with & ignore SIGINT, and children inherit that.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler if is_interruptible else signal.SIG_IGN)
    try:
        parent = subprocess.Popen(command, env={"PYTHONPATH": str(APP_DIR)}, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, handler)
    deadline = time.monotonic() + 120
    while not all((tmp_path / name).exists() for name in "01"):
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.1)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(end)
    parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=20)
    for process in alive:
        process.kill()
    assert len(gone) >= 2 and not alive
