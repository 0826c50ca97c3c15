"""Processes of this machine, without Ray; the loss of one ends the run."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic

from lib.workers.each_case import Case, Result, Tool, WorkersError

PROCESS_LOST = (
    "A process was lost, most likely for want of memory. What is finished is kept: run the same command again, with "
    "fewer --jobs."
)


@contextlib.contextmanager
def processes(open_tool: Callable[[], Tool], count: int) -> Iterator["_Processes[Tool]"]:
    """As `lib.workers.choice.WorkerChoice.start`."""
    # Spawned: a fork would copy locks of torch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, context, _initialise, (open_tool,))
    try:
        yield _Processes(pool)
    except BaseException:
        # Whoever stops a run does not wait for cases whose results nobody would keep.
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Processes(Generic[Tool]):
    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def each(
        self, do: Callable[[Tool, Case], Result], cases: Iterable[Case]
    ) -> Iterator[tuple[Case, "Future[Result]"]]:
        """As `lib.workers.each_case.Workers.each`, but all cases are taken at once."""
        running: dict[Future[Result], Case] = {self._pool.submit(_do, do, case): case for case in cases}
        for done in as_completed(running):
            if isinstance(done.exception(), BrokenProcessPool):
                raise WorkersError(PROCESS_LOST)
            yield running[done], done


_TOOL: list[Any] = []
"""Of this process, if it is one of a pool."""


def _initialise(open_tool: Callable[[], Any]) -> None:
    _TOOL[:] = [open_tool()]


def _do(do: Callable[[Any, Any], Any], case: Any) -> Any:
    return do(_TOOL[0], case)
