"""Workers of Ray: processes of this machine, or of a cluster, of which any may be lost at any time."""

import contextlib
import itertools
import logging
import math
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic

from lib.workers.each_case import Case, Result, Tool, WorkerLost, WorkersError
from lib.workers.ray_worker import release, worker_class

NOT_INSTALLED = "Workers take Ray, which is not installed here: pip install 'ray>=2.60'."
MOST_TRIES = 2
"""Of a case whose worker was lost: it may be the case that takes all memory."""
WAIT_S = 600.0
"""After which a run without any worker ends; a cluster may have other work to finish."""

_CODE = Path(__file__).parents[2]
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_worker_niceness": "0",  # a worker sets its own, whoever started Ray
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # its lines on lost workers, which would stand among ours on stdout
}

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def on_ray(
    open_tool: Callable[[], Tool], count: int, cluster: str | None, *, device: str, folders: tuple[Path, ...]
) -> Iterator["_OnRay[Tool]"]:
    """As `lib.workers.each_case.WorkerChoice.start`."""
    with contextlib.ExitStack() as stack:

        def start() -> _Crew:
            ray = stack.enter_context(_connected(count, cluster))
            return _Crew(ray, open_tool, count, _gpu_share(ray, count, device), folders)

        yield _OnRay(start)


@contextlib.contextmanager
def _connected(count: int, cluster: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster or to one of its own, which ends with the ``with`` block."""
    if cluster is not None:
        _require_answer(cluster)
    with tempfile.TemporaryDirectory(prefix="sam3d-ray-", ignore_cleanup_errors=True) as private:
        os.environ |= _QUIET
        if cluster is None:
            # A node that believes itself on such a system listens on the loopback interface alone.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            # Other users of this machine cannot give it work.
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it once in a process
        try:
            import ray
        except ImportError as error:
            raise WorkersError(NOT_INSTALLED) from error
        own: dict[str, Any] = {
            "num_cpus": count,
            "include_dashboard": False,
            "object_store_memory": 200 * 2**20,
            "_temp_dir": private,
        }
        try:
            ray.init(
                address=cluster or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(own if cluster is None else {}),
            )
        # Broad: Ray raises whatever its parts do, from sockets with long names to a cluster of another Python.
        except Exception as error:
            place = "on this machine" if cluster is None else f"at {cluster}"
            raise WorkersError(f"Ray cannot be used {place}: {' '.join(str(error).split())}") from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _require_answer(cluster: str) -> None:
    """Passes if something listens there; Ray itself tries for many minutes."""
    host, _, port = cluster.rpartition(":")
    if not port.isdecimal():
        return  # Ray's own words, such as "auto"
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise WorkersError(
            f"No Ray cluster answers at {cluster} ({error}). Give the address that 'ray start --head' prints."
        ) from error


def _gpu_share(ray: Any, count: int, device: str) -> float:
    """How much of a GPU each worker gets; Ray shows it that GPU as its first."""
    if device == "cpu":
        return 0.0
    if device != "cuda:0":
        raise WorkersError(f"device is {device}; Ray gives its workers GPUs by itself: say --device cuda.")
    there = int(ray.cluster_resources().get("GPU", 0))
    if not there:
        raise WorkersError("The workers have no GPU; say --device cpu.")
    return 1 / math.ceil(count / there)


class _OnRay(Generic[Tool]):
    """Starts Ray for the first case: where nothing is left to do, nothing is started."""

    def __init__(self, start: Callable[[], "_Crew"]) -> None:
        self._start = start
        self._crew: _Crew | None = None

    def each(
        self, do: Callable[[Tool, Case], Result], cases: Iterable[Case]
    ) -> Iterator[tuple[Case, "Future[Result]"]]:
        """As `lib.workers.each_case.Workers.each`."""
        rest = iter(cases)
        for first in rest:
            self._crew = self._crew or self._start()
            yield from self._crew.each(do, itertools.chain([first], rest))


class _Crew:
    """Gives each worker one case a time; a lost worker is replaced, and its case given to another."""

    def __init__(
        self, ray: Any, open_tool: Callable[[], Any], count: int, gpus: float, folders: tuple[Path, ...]
    ) -> None:
        # One core each, to which Ray also keeps the threads.
        options = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        self._ray = ray
        self._class = ray.remote(worker_class()).options(**options)
        needed = tuple(str(folder) for folder in (_CODE, *folders))
        self._arguments = needed, release(_CODE), ray.cloudpickle.dumps(open_tool)
        self._starts_left = 2 * count
        self._problems: set[str] = set()
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        for _ in range(count):
            self._start()

    def each(self, do: Callable[[Any, Case], Result], cases: Iterator[Case]) -> Iterator[tuple[Case, "Future[Result]"]]:
        """As `lib.workers.each_case.Workers.each`."""
        function, tries = self._ray.put(do), itertools.repeat(1)
        todo = zip(cases, tries, strict=False)
        again: list[tuple[Case, int]] = []
        busy: dict[Any, tuple[Any, Case, int]] = {}
        while True:
            while self._idle and (case_and_try := again.pop() if again else next(todo, None)):
                worker = self._idle.pop()
                busy[worker.work.remote(function, case_and_try[0])] = worker, *case_and_try
            if self._idle and not busy:
                return
            answer = self._wait([*busy, *self._starting], is_busy=bool(busy))
            if answer in self._starting:
                self._started(answer)
                continue
            worker, case, attempt = busy.pop(answer)
            done: Future[Result] = Future()
            try:
                result, error = self._ray.get(answer)
                self._idle.append(worker)
            except self._ray.exceptions.RayError:
                logger.warning("A worker was lost; another one takes its place.")
                self._ray.kill(worker)
                self._start()
                if attempt < MOST_TRIES:
                    again.append((case, attempt + 1))
                    continue
                error = WorkerLost(f"It lost {MOST_TRIES} workers, most likely for want of memory.")
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)
            yield case, done

    def _wait(self, answers: list[Any], *, is_busy: bool) -> Any:
        """The first of them that is there."""
        if not answers:
            raise WorkersError(f"No worker is left. {' '.join(sorted(self._problems))}")
        ready, _ = self._ray.wait(answers, timeout=None if is_busy else WAIT_S)
        if not ready:
            raise WorkersError(
                f"Ray had no worker for {WAIT_S:.0f} s. What is finished is kept: give the same command again."
            )
        return ready[0]

    def _start(self) -> None:
        worker = self._class.remote(*self._arguments)
        self._starting[worker.start.remote()] = worker

    def _started(self, answer: Any) -> None:
        worker = self._starting.pop(answer)
        try:
            problem = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            problem = f"A worker was lost while it started ({type(error).__name__})."
            if self._starts_left:
                self._starts_left -= 1
                self._start()
        if problem is None:
            self._idle.append(worker)
            return
        self._ray.kill(worker)
        if problem not in self._problems:
            self._problems.add(problem)
            logger.warning("%s", problem)
