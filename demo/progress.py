"""Says what takes time while it takes it."""

import sys
import threading
import time
from types import TracebackType

_TICK_S = 0.5


class Progress:
    """``with Progress("Reading"):`` prints the line, counts the seconds on a terminal, ends with the time."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._done = threading.Event()
        self._counts = sys.stdout.isatty()

    def __enter__(self) -> "Progress":
        self._began = time.monotonic()
        print(f"{self.what} ...", end="", flush=True)
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        outcome = "failed" if error else "done"
        start = f"\r{self.what} ..." if self._counts else ""
        print(f"{start} {outcome} in {time.monotonic() - self._began:.1f} s", flush=True)

    def _count(self) -> None:
        while not self._done.wait(_TICK_S):
            if self._counts:
                print(f"\r{self.what} ... {time.monotonic() - self._began:.0f} s", end="", flush=True)
