"""Locks between processes, which the kernel gives up with the process that held them, however that ended."""

import fcntl
import os
import time
from pathlib import Path

_POLL_S = 0.01


def wait_for_lock(fd: int, timeout_s: float) -> bool:
    """Take the lock of an open file, for as long as that is open.

    Such locks belong to the open file: threads that open it anew exclude each other as well.

    Args:
        fd: Of the file.
        timeout_s: How long to wait for another that holds it; 0 not to wait.

    Returns:
        Whether it was taken. A process that was stopped with the lock in its hands must not stop this one for good.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of a file; a file that is not there has none, one that is closed to us counts.

    To find out, the lock is taken for a moment: whoever wants it has to wait that long.

    Args:
        path: The file.
    """
    try:
        # To write: a network file system locks no other files.
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    try:
        return not wait_for_lock(fd, 0)
    finally:
        os.close(fd)
