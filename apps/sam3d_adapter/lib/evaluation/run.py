"""All interactions of an evaluation, over several processes."""

import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from lib.evaluation.cases import Case, DataError, Source, inspect, read_truth
from lib.evaluation.interaction import TIMEOUT_S, Task, ball_interaction, play_interaction, steps_of
from lib.evaluation.ledger import Key, Ledger
from lib.evaluation.record import ImageFree, Record, facts_of, failed_trace, image_free_masks, make_record
from lib.evaluation.simulated_user import MAX_CLICKS, SimulatedUser

Result = TypeVar("Result")

WORKER_LOST = (
    "A worker process was lost, most likely for want of memory. What is finished is kept: run the same command again, "
    "with fewer --jobs."
)


class RunError(RuntimeError):
    """A run that cannot go on, with what to do."""


class OpenTask(Task, Protocol):
    """A task that is ready in a process."""

    def start(self) -> list[float]:
        """Answers requests that count for nothing; their times, ms."""

    def memory_mib(self) -> dict[str, float]:
        """Peaks of the device since the last call, by name."""


@dataclass(frozen=True)
class Plan:
    """What is done with every case.

    Attributes:
        modes: of the simulated user.
        seeds: of every mode but ``centre``, which takes the first alone: of it only ties are drawn.
        clicks: of an interaction.
        timeout_s: of a request.
        image_free: numbers of the baselines; None for none.
        model: ``id`` and ``sha256``, and ``version`` where it is one of the preset's; for the records.
    """

    modes: tuple[str, ...]
    seeds: tuple[int, ...]
    model: dict[str, str]
    image_free: ImageFree | None = None
    clicks: int = MAX_CLICKS
    timeout_s: float = TIMEOUT_S

    def interactions(self) -> list[tuple[str, int]]:
        """Mode and seed of each; the first mode first, so that it finds the caches empty."""
        return [(mode, seed) for mode in self.modes for seed in (self.seeds[:1] if mode == "centre" else self.seeds)]


class Workers:
    """Processes that hold the task, one interaction a time each; with one job, this very process.

    Args:
        make_task: builds the task in a process; to be pickled.
        jobs: number of processes.
        temporary: takes whatever the task writes meanwhile.
    """

    def __init__(self, make_task: Callable[[], OpenTask], jobs: int, temporary: Path) -> None:
        self._arguments = make_task, temporary
        self._jobs = jobs
        self._pool: Executor | None = None
        self._others: set[BaseProcess] = set()

    def __enter__(self) -> "Workers":
        if self._jobs > 1:
            # Spawned: a fork would copy locks of torch's threads in whatever state they are.
            context = multiprocessing.get_context("spawn")
            self._others = set(multiprocessing.active_children())
            self._pool = ProcessPoolExecutor(self._jobs, context, _initialise, self._arguments)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._pool is None:
            return
        if kind is not None:
            # Whoever stops a run does not wait for cases whose scores nobody would write down.
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[..., Result], items: Sequence[tuple[Any, ...]], what: str) -> Iterator[Result]:
        """Results as they come, in no order, with a progress bar on a terminal.

        Raises:
            RunError: a process was lost.
        """
        bar = tqdm(total=len(items), desc=what, unit="case", disable=None, file=sys.stderr)
        with bar:
            if self._pool is None:
                with _in_process(*self._arguments):
                    for item in items:
                        yield function(*item)
                        bar.update()
                return
            futures: list[Future[Result]] = [self._pool.submit(function, *item) for item in items]
            try:
                for future in as_completed(futures):
                    yield future.result()
                    bar.update()
            except BrokenProcessPool as error:
                raise RunError(WORKER_LOST) from error


def find_cases(sources: Sequence[Source], workers: Workers, *, labels_are_objects: bool) -> tuple[list[Case], int]:
    """All cases in the order of their ids, and how many objects without a voxel were left out.

    Raises:
        DataError: see ``inspect``; also two cases of one id, or none at all.
    """
    items = [(source, labels_are_objects) for source in sources]
    found = list(workers.map(_inspect, items, "reading labels"))
    cases = sorted((case for some, _ in found for case in some), key=lambda case: case.id)
    for first, second in zip(cases, cases[1:], strict=False):
        if first.id == second.id:
            raise DataError(f"Two cases are called {first.id}; give each a name of its own.")
    if not cases:
        raise DataError(f"None of {len(sources)} label(s) holds a voxel above 0.")
    return cases, sum(empty for _, empty in found)


def run(cases: Sequence[Case], plan: Plan, workers: Workers, ledger: Ledger) -> list[Record]:
    """Holds every interaction that the ledger does not have; all records in the order of cases and plan.

    Raises:
        LedgerError, RunError: see there.
    """
    finished = ledger.finished({case.id: facts_of(case) for case in cases})
    order: list[Key] = [(case.id, mode, seed) for case in cases for mode, seed in plan.interactions()]
    # Large objects last longest; begun first, none is left at the end for one process alone.
    items = []
    for case in sorted(cases, key=lambda case: -case.object_voxels):
        open_interactions = [
            (mode, seed) for mode, seed in plan.interactions() if (case.id, mode, seed) not in finished
        ]
        if open_interactions:
            items.append((case, plan, open_interactions))
    for records in workers.map(evaluate_case, items, "clicking"):
        for record in records:
            ledger.add(record)
    return ledger.sort(order)


def evaluate_case(case: Case, plan: Plan, interactions: Sequence[tuple[str, int]]) -> list[Record]:
    """The records of one case; a task that fails makes a failed record, never an exception."""
    truth = read_truth(case)
    masks = image_free_masks(truth, plan.image_free) if plan.image_free else {}
    records = []
    for mode, seed in interactions:
        user = SimulatedUser(truth, case.spacing, mode, seed, case.id)
        steps = steps_of(mode, plan.clicks)
        cold: list[float] = []
        try:
            task, cold = current_task()
            trace = play_interaction(
                task, case.source.image, truth, case.spacing, user, steps, timeout_s=plan.timeout_s
            )
            memory = {"host": _host_mib(), **task.memory_mib()}
        # Broad: what fails here is written down as failed, and the other cases are evaluated.
        except Exception as error:
            trace, memory = failed_trace(user, steps, str(error) or type(error).__name__), {}
        record = make_record(case, mode, seed, plan.model, user, trace)
        if plan.image_free is not None:
            ball = ball_interaction(truth, case.spacing, plan.image_free.ball_mm, user, steps)
            record["blind"] = {"ball": ball, **masks}
        record |= {"cold_start_ms": cold, "peak_memory_mib": memory}
        records.append(record)
    return records


def current_task() -> tuple[OpenTask, list[float]]:
    """The task of this process, made when first asked for, and the times of its first requests, that time alone."""
    cold: list[float] = []
    if _STATE.task is None:
        assert _STATE.make_task is not None  # set before any item is worked on
        _STATE.task = _STATE.make_task()
        cold = [round(time, 1) for time in _STATE.task.start()]
    return _STATE.task, cold


@dataclass
class _State:
    """Of one process.

    Attributes:
        make_task: builds the task.
        task: once it was needed.
    """

    make_task: Callable[[], OpenTask] | None = None
    task: OpenTask | None = None


_STATE = _State()


def _initialise(make_task: Callable[[], OpenTask], temporary: Path) -> None:
    _STATE.make_task, _STATE.task = make_task, None
    tempfile.tempdir = str(temporary)


@contextmanager
def _in_process(make_task: Callable[[], OpenTask], temporary: Path) -> Iterator[None]:
    before = tempfile.tempdir
    if _STATE.make_task is not make_task:
        _initialise(make_task, temporary)
    tempfile.tempdir = str(temporary)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _inspect(source: Source, labels_are_objects: bool) -> tuple[list[Case], int]:
    return inspect(source, labels_are_objects=labels_are_objects)


def _host_mib() -> float:
    """Most memory that this process ever held, MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
