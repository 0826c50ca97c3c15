"""One function over many cases: in this process or on workers of Ray, the same for each case.

Results come back to the process that asked. It alone writes what is kept, for SQLite is not shared between machines.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

Tool = TypeVar("Tool")
Opened = TypeVar("Opened", covariant=True)
Case = TypeVar("Case")
Result = TypeVar("Result")


class WorkersError(RuntimeError):
    """Workers that cannot be had, or none of which can be used: what is wrong, and what to do."""


class WorkerLost(RuntimeError):
    """Two workers that had a case ended, one after the other."""


class Workers(Protocol[Opened]):
    """What works on cases; each worker has opened its tool, such as a segmenter, once."""

    def each(
        self, do: Callable[[Opened, Case], Result], cases: Iterable[Case]
    ) -> Iterator[tuple[Case, "Future[Result]"]]:
        """Works on all cases, and gives each back as it is finished, in no order.

        A case is taken from ``cases`` when a worker is free for it.

        Args:
            do: given the tool and a case; to be pickled, as are cases and results.
            cases: to be worked on.

        Returns:
            Each case with its result; that raises what ``do`` raised, or `WorkerLost`.

        Raises:
            WorkersError: no worker is left.
        """


class InProcess(Generic[Tool]):
    """One worker, this process, which works on the cases in their order."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool

    def each(
        self, do: Callable[[Tool, Case], Result], cases: Iterable[Case]
    ) -> Iterator[tuple[Case, "Future[Result]"]]:
        """As `Workers.each`."""
        for case in cases:
            done: Future[Result] = Future()
            # Broad: what is wrong with one case is for whoever asked to judge.
            try:
                done.set_result(do(self._tool, case))
            except Exception as error:
                done.set_exception(error)
            yield case, done
