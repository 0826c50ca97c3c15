"""Whether there is memory for an image, asked before it is unpacked; requests that run at once share what there is."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

SHARE = 0.8
"""Of the memory that is free; the rest is for the network and for what else runs here."""
READING = 8
"""Bytes per voxel beside twice the stored type, while an image is read: values as float32, and their conversion."""
ANSWERING = 6
"""Bytes per voxel beside the image: the mask, two masks that the request names, the answer's file, and copies."""

_CGROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 2**60
"""Version 1 writes the largest number of pages where there is no limit."""


class MemoryShortage(RuntimeError):
    """The server lacks the memory for what was asked."""


class _Shared:
    """What the running requests of this process have reserved.

    Attributes:
        lock: held while the rest is looked at.
        reserved: bytes, of all of them.
        free: bytes that were free when the first of them began.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reserved = 0
        self.free = 0


_shared = _Shared()


@contextlib.contextmanager
def reserved(name: str, nbytes: int) -> Iterator[None]:
    """Reserves memory for the time of the ``with`` block.

    What other requests reserved counts as taken, for they may not have touched it yet.

    Args:
        name: of the image, for the message.
        nbytes: most bytes that are taken at one time.

    Raises:
        MemoryShortage: there is not as much.
    """
    with _shared.lock:
        now = free_memory()
        if not _shared.reserved:
            _shared.free = now
        # Not what is free now less what is reserved: that would count twice what others have reserved and taken.
        room = max(0, int(min(now * SHARE, _shared.free * SHARE - _shared.reserved)))
        if nbytes > room:
            raise MemoryShortage(
                f"Image {name} needs {nbytes / 2**30:.1f} GiB of memory; the server has {room / 2**30:.1f} GiB for it "
                f"at the moment ({SHARE:.0%} of what is free, less what other requests need). Try again later, or crop "
                "or resample the image."
            )
        _shared.reserved += nbytes
    try:
        yield
    finally:
        with _shared.lock:
            _shared.reserved -= nbytes


def free_memory(cgroups: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this process can still take: of the machine, and of the containers and services that it runs in.

    Args:
        cgroups: where Linux shows control groups, of version 1 or 2.
        membership: the file that names those of this process.
    """
    free: int = psutil.virtual_memory().available
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return free
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # Version 2 has one group for all controllers, and names none.
        root = cgroups / "memory" if "memory" in controllers.split(",") else None if controllers else cgroups
        if root is None:
            continue
        inner = root / path.lstrip("/")
        # A group takes from those above it. Within a container the path is often that of the machine outside, which
        # does not exist here, and the container's own group lies at the root.
        for folder in (inner, *inner.parents[: len(inner.parts) - len(root.parts)]):
            free = min(free, _room(folder))
    return max(0, free)


def _room(group: Path) -> int:
    for limit, usage, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
            # What was read of files counts as used, but gives way.
            stat = dict(line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        return _UNLIMITED if most == "max" else int(most) - used + int(stat.get(cached, 0))
    return _UNLIMITED
