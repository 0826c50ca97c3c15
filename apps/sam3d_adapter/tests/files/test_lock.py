"""Locks of files: held as long as the process lives, and looked at without keeping anybody out."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lib.files.lock import file_lock, is_locked, locked
from tests.support.small_disk import small_disk

APP = Path(__file__).parents[2]


HOLDER = """
import sys
from pathlib import Path
from lib.files.lock import file_lock
with file_lock(Path(sys.argv[1]), 0):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_seen_until_its_holder_is_gone(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path) and not path.exists()
    path.touch()
    assert not is_locked(path)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=APP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            assert is_locked(path) and is_locked(path)
            with pytest.raises(BlockingIOError, match="in use"), locked(file_lock(path, 0), BlockingIOError("in use")):
                pass
        finally:
            holder.kill()
    assert not is_locked(path)


def test_whoever_waits_a_moment_gets_it_however_often_others_look(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    is_over = threading.Event()
    lookers = [threading.Thread(target=lambda: [is_locked(path) for _ in iter(is_over.is_set, True)]) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            with locked(file_lock(path, 1.0), RuntimeError("The lookers have it.")):
                pass
    finally:
        is_over.set()
        for looker in lookers:
            looker.join()


def test_a_lock_that_another_user_took_counts(tmp_path, monkeypatch):
    def closed(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    (path := tmp_path / "lock").touch()
    monkeypatch.setattr(os, "open", closed)
    assert is_locked(path)


def test_a_thread_may_take_what_it_holds_again_and_no_other(tmp_path):
    lock, refused = file_lock(tmp_path / "lock", 0), []

    def other() -> None:
        with contextlib.suppress(RuntimeError), locked(lock, RuntimeError()):
            return
        refused.append(threading.current_thread().name)

    with locked(lock, RuntimeError()), locked(lock, RuntimeError()):
        thread = threading.Thread(target=other, name="other")
        thread.start()
        thread.join()
    assert refused == ["other"] and not is_locked(tmp_path / "lock")


@pytest.mark.parametrize("name", ["lock", "new"])
def test_a_disk_that_cannot_be_written_is_an_error_and_not_waited_for(tmp_path, name):
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk", 2**17))
        except OSError as error:
            pytest.skip(f"needs the right to mount a disk: {error}")
        (disk.folder / "lock").touch()
        stack.enter_context(disk.read_only())
        with pytest.raises(OSError, match="Read-only"), locked(file_lock(disk.folder / name, 1e6), RuntimeError()):
            pass
