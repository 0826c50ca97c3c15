"""A control group with a limit of memory, as a container has one: real, and only where the kernel lets us make it."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

_ROOTS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
)
"""Of version 1 and of version 2: folder, limit, usage."""


class MemoryGroup:
    """A group of processes that share a limit.

    Args:
        folder: of the group.
        limit: name of the file with its limit.
        usage: name of the file with what it holds.
    """

    def __init__(self, folder: Path, limit: str, usage: str) -> None:
        self.folder = folder
        self._limit, self._usage = limit, usage

    def take(self, pid: int) -> None:
        """Moves a process here, with its threads; the memory that it holds already counts where it was taken."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def limit(self, nbytes: int) -> None:
        """Sets the most that its processes may hold."""
        (self.folder / self._limit).write_text(str(nbytes))

    def used(self) -> int:
        """Bytes that its processes hold."""
        return int((self.folder / self._usage).read_text())


@contextlib.contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A group for the time of the ``with`` block, at whose end no process may be in it any more.

    Raises:
        OSError: no right to make one, or no control groups for memory.
    """
    for root, limit, usage in _ROOTS:
        if (root / "cgroup.procs").exists():
            folder = root / f"sam3d_{uuid.uuid4().hex[:8]}"
            folder.mkdir()
            try:
                if not (folder / limit).exists():
                    raise OSError(f"{root} has no controller of memory")
                yield MemoryGroup(folder, limit, usage)
            finally:
                folder.rmdir()
            return
    raise OSError("no control groups")
