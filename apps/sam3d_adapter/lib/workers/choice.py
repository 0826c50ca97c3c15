"""Where a command works on its cases."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.workers.each_case import InProcess, Tool, Workers
from lib.workers.on_ray import on_ray
from lib.workers.processes import processes


@dataclasses.dataclass(frozen=True)
class WorkerChoice:
    """Where cases are worked on.

    Attributes:
        count: of workers; one without a cluster is this process.
        cluster: address of a Ray cluster; None for workers on this machine.
        with_ray: whether workers on this machine are Ray's, which go on when one is lost.
        folders: that a worker's machine must have at the same path.
    """

    count: int = 1
    cluster: str | None = None
    with_ray: bool = True
    folders: tuple[Path, ...] = ()

    def reading(self, *folders: Path) -> "WorkerChoice":
        """The same, of workers that need these folders."""
        return dataclasses.replace(self, folders=tuple(folder.resolve() for folder in folders))

    @contextlib.contextmanager
    def start(self, open_tool: Callable[[], Tool], *, device: str = "cpu") -> Iterator[Workers[Tool]]:
        """The workers, which end with the ``with`` block.

        Args:
            open_tool: called once in each worker's process; to be pickled.
            device: that the tool runs on: ``cpu`` or ``cuda:N``.

        Raises:
            WorkersError: Ray is missing, or the cluster does not answer.
        """
        if self.count == 1 and self.cluster is None:
            yield InProcess(open_tool())
        elif self.cluster is None and not self.with_ray:
            with processes(open_tool, self.count) as plain:
                yield plain
        else:
            with on_ray(open_tool, self.count, self.cluster, device=device, folders=self.folders) as workers:
                yield workers


IN_PROCESS = WorkerChoice()
