"""One writer at a time among all threads and processes that share a folder."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from lib.files.lock import wait_for_lock
from lib.registry.errors import RegistryBusy

LOCK_TIMEOUT_S = 30.0
"""How long a writer waits: others copy files of some hundred megabytes at most."""


class FolderLock:
    """A lock file that the kernel gives up with the process that held it, however that ended.

    A thread that holds it may take it again.

    Args:
        path: of the lock file; its folder is made when it is first locked.
        timeout_s: how long to wait.
    """

    def __init__(self, path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._threads = threading.RLock()
        self._depth = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[bool]:
        """Holds the lock; yields whether it was not held by this thread before.

        Raises:
            RegistryBusy: another one kept it all the time.
            OSError: the folder cannot be written to.
        """
        if not self._threads.acquire(timeout=self._timeout_s):
            raise self._busy()
        try:
            if self._depth:
                yield False
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                if not wait_for_lock(fd, self._timeout_s):
                    raise self._busy()
                self._depth = 1
                yield True
            finally:
                self._depth = 0
                os.close(fd)
        finally:
            self._threads.release()

    def _busy(self) -> RegistryBusy:
        return RegistryBusy(
            f"Another process has kept the versions locked for {self._timeout_s:g} s. Try again; if it stays so, look "
            "for a training or a command that hangs."
        )
