"""Locks of files: held as long as the process lives, and looked at without keeping anybody out."""

import os
import threading

from lib.files.lock import is_locked, wait_for_lock


def test_a_lock_is_seen_until_its_holder_is_gone(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    path.touch()
    assert not is_locked(path)
    ready, wait = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        wait_for_lock(os.open(path, os.O_RDWR), 0)
        os.write(ready[1], b"x")
        os.read(wait[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    assert is_locked(path) and is_locked(path)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert not is_locked(path)
    for fd in (*ready, *wait):
        os.close(fd)


def test_whoever_waits_a_moment_gets_it_however_often_others_look(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    is_over = threading.Event()
    lookers = [threading.Thread(target=lambda: [is_locked(path) for _ in iter(is_over.is_set, True)]) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            fd = os.open(path, os.O_RDWR)
            assert wait_for_lock(fd, 1.0)
            os.close(fd)
    finally:
        is_over.set()
        for looker in lookers:
            looker.join()


def test_a_lock_that_another_user_took_counts(tmp_path, monkeypatch):
    def closed(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", closed)
    assert is_locked(tmp_path / "lock")
