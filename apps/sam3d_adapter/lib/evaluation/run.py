"""All interactions of an evaluation, over several processes."""

import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from lib.evaluation.cases import Case, DataError, Source, inspect, read_truth
from lib.evaluation.interaction import TIMEOUT_S, Task, ball_interaction, play_interaction, steps_of
from lib.evaluation.ledger import Key, Ledger
from lib.evaluation.record import ImageFree, Record, facts_of, failed_trace, image_free_masks, make_record
from lib.evaluation.simulated_user import MAX_CLICKS, SimulatedUser
from lib.workers.each_case import Case as Item
from lib.workers.each_case import Result, WorkerLost, Workers, WorkersError


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


class LazyTask:
    """The task of a process, made when first asked for.

    Args:
        make_task: builds it.
        temporary: takes whatever the task writes meanwhile, if this machine has that folder.
    """

    def __init__(self, make_task: Callable[[], OpenTask], temporary: Path) -> None:
        self._make_task = make_task
        self._task: OpenTask | None = None
        if temporary.is_dir():
            tempfile.tempdir = str(temporary)

    def __call__(self) -> tuple[OpenTask, list[float]]:
        """The task, and the times of its first requests, that time alone."""
        if self._task is not None:
            return self._task, []
        self._task = self._make_task()
        return self._task, [round(time, 1) for time in self._task.start()]


def find_cases(
    sources: Sequence[Source], workers: Workers[LazyTask], *, labels_are_objects: bool
) -> tuple[list[Case], int]:
    """All cases in the order of their ids, and how many objects without a voxel were left out.

    Raises:
        DataError: see ``inspect``; also two cases of one id, or none at all.
    """
    inspected = workers.each(partial(_inspect, labels_are_objects), sources)
    found = [done.result() for _, done in watched(inspected, len(sources), "reading labels")]
    cases = sorted((case for some, _ in found for case in some), key=lambda case: case.id)
    for first, second in zip(cases, cases[1:], strict=False):
        if first.id == second.id:
            raise DataError(f"Two cases are called {first.id}; give each a name of its own.")
    if not cases:
        raise DataError(f"None of {len(sources)} label(s) holds a voxel above 0.")
    return cases, sum(empty for _, empty in found)


def run(cases: Sequence[Case], plan: Plan, workers: Workers[LazyTask], ledger: Ledger) -> list[Record]:
    """Holds every interaction that the ledger does not have; all records in the order of cases and plan.

    Raises:
        LedgerError: see there.
        WorkersError: no worker is left, or a case has lost two.
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
            items.append((case, open_interactions))
    lost = []
    for (case, _), done in watched(workers.each(partial(evaluate_case, plan), items), len(items), "clicking"):
        if isinstance(done.exception(), WorkerLost):
            lost.append(case.id)
            continue
        for record in done.result():
            ledger.add(record)
    if lost:
        raise WorkersError(
            f"Of {len(lost)} case(s) the worker was lost twice, most likely for want of memory: "
            f"{', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}. All others are kept: run the same command again, "
            "with fewer workers."
        )
    return ledger.sort(order)


def evaluate_case(plan: Plan, make: LazyTask, item: tuple[Case, Sequence[tuple[str, int]]]) -> list[Record]:
    """The records of one case, on whatever worker; a task that fails makes a failed record, never an exception.

    Args:
        plan: what is done.
        make: of this process.
        item: the case, and mode and seed of its interactions.
    """
    case, interactions = item
    truth = read_truth(case)
    masks = image_free_masks(truth, plan.image_free) if plan.image_free else {}
    records = []
    for mode, seed in interactions:
        user = SimulatedUser(truth, case.spacing, mode, seed, case.id)
        steps = steps_of(mode, plan.clicks)
        cold: list[float] = []
        try:
            task, cold = make()
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


def watched(
    done: Iterator[tuple[Item, "Future[Result]"]], total: int, what: str
) -> Iterator[tuple[Item, "Future[Result]"]]:
    """The same, with a progress bar on a terminal."""
    with tqdm(total=total, desc=what, unit="case", disable=None, file=sys.stderr) as bar:
        for one in done:
            yield one
            bar.update()


def _inspect(labels_are_objects: bool, _: LazyTask, source: Source) -> tuple[list[Case], int]:
    return inspect(source, labels_are_objects=labels_are_objects)


def _host_mib() -> float:
    """Most memory that this process ever held, MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
