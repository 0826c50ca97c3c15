"""Locks between processes; the kernel releases them when the process ends, even if it is killed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_POLL_S = 0.01


def file_lock(path: Path, timeout_s: float) -> FileLock:
    """The lock of a file, for `with`. A thread that holds this object may take it again; it keeps out all others.

    Args:
        path: Lock file; made for its user alone if it is absent.
        timeout_s: How long to wait for another holder; 0 not to wait.
    """
    # Not the soft lock, which outlives a process that is killed.
    return FileLock(path, timeout_s, mode=0o600, poll_interval=_POLL_S, fallback_to_soft=False)


@contextlib.contextmanager
def locked(lock: FileLock, busy: Exception) -> Iterator[None]:
    """Holds a lock.

    Args:
        lock: From `file_lock`.
        busy: Raised if another keeps the lock for the whole timeout, so that a stopped process cannot block this one.

    Raises:
        OSError: The folder is missing or cannot be written to.
    """
    try:
        held = lock.acquire()
    except Timeout:
        raise busy from None
    with held:
        yield


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of a file. A missing file is not locked; one that we may not open is.

    The check takes the lock for a moment, and whoever wants it waits that long.

    Args:
        path: The file.
    """
    try:
        if path.exists():
            with file_lock(path, 0):
                pass
    except (Timeout, PermissionError):
        return True
    return False
