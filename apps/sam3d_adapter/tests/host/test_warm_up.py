"""The first answer is not slower than the next for the writer's sake."""

import logging
import subprocess
import sys
from pathlib import Path

from lib.host import warm_up

APP_DIR = Path(__file__).parents[2]


def test_it_writes_with_the_hosts_own_writer(monkeypatch):
    written = []
    original = warm_up.write_itk
    monkeypatch.setattr(warm_up, "write_itk", lambda *a: (original(*a), written.append(a)))
    warm_up.warm_up_writer()
    assert len(written) == 1


def test_a_failure_is_logged_and_no_more(monkeypatch, caplog):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(warm_up, "write_itk", fail)
    with caplog.at_level(logging.WARNING):
        warm_up.warm_up_writer()
    assert "disk full" in caplog.text


def test_a_thread_can_write_afterwards():
    """In a process of its own, for there a thread that is first to load ITK ends it."""
    code = (
        "import sys, threading; from lib.host.warm_up import warm_up_writer; warm_up_writer();"
        "t = threading.Thread(target=warm_up_writer); t.start(); t.join(); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=APP_DIR, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "alive" in done.stdout
