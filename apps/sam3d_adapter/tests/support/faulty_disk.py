"""A disk that fails, or a machine that stops, at one chosen step of what a function does."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

STEPS = ("open", "write", "fsync", "replace", "rename", "mkdir")
"""Functions of `os` that change or secure what is on a disk; `open` where it may make a file."""
REMOVALS = ("link", "unlink", "rmdir")
"""Further ones, which need no room."""


class Steps:
    """Counts the steps, and does something else in place of one of them.

    Args:
        instead: called with the step's function and arguments at the chosen step; None to count alone.
        at: number of the chosen step, from 0 on.
        and_later: whether the steps after it are treated likewise.
        names: of the functions that count.
    """

    def __init__(
        self,
        instead: Callable[..., Any] | None = None,
        at: int = 0,
        and_later: bool = False,
        names: tuple[str, ...] = STEPS,
    ) -> None:
        self.count = 0
        self._instead, self._at, self._and_later, self._names = instead, at, and_later, names

    @contextlib.contextmanager
    def watched(self) -> Iterator["Steps"]:
        """For the time of the ``with`` block."""
        with pytest.MonkeyPatch.context() as patch:
            for name in self._names:
                patch.setattr(os, name, self._around(getattr(os, name)))
            yield self

    def _around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **keywords: Any) -> Any:
            if real.__name__ == "open" and not args[1] & (os.O_CREAT | os.O_WRONLY):
                return real(*args, **keywords)
            here, self.count = self.count, self.count + 1
            is_chosen = here == self._at or (self._and_later and here > self._at)
            if self._instead is not None and is_chosen:
                return self._instead(real, *args, **keywords)
            if real.__name__ == "fsync":
                return None  # what was written outlives the process without it, and it takes most of the time
            return real(*args, **keywords)

        return step


def no_space(real: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """What a full disk does: half of what is written gets there at most."""
    if real.__name__ == "write":
        real(args[0], bytes(args[1])[: len(args[1]) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill(real: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """The end of the process, in the middle of a step."""
    if real.__name__ == "write":
        real(args[0], bytes(args[1])[: len(args[1]) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(function: Callable[[], Any]) -> int:
    """Runs a function in a copy of this process; how that ended, as `os.waitpid` says."""
    child = os.fork()
    if child == 0:
        try:
            function()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]
