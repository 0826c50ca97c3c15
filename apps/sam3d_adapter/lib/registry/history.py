"""The events of a registry: a file that grows by a line each, after ``served.json`` has put the event in force.

Its last line may be lacking, where a disk was full or a process killed between the two; ``served.json`` has the event
as well, so that nothing is lost, and the next writer adds it.
"""

import contextlib
import os
from pathlib import Path

from lib.registry.errors import DamagedFile, NewerFormat
from lib.registry.files import parse_json, to_json, write_all
from lib.registry.state import State


def read_history(path: Path) -> list[State]:
    """The events whose lines are whole, oldest first."""
    states: dict[int, State] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            # A torn line is passed over: what it was to say stands in served.json.
            with contextlib.suppress(DamagedFile, NewerFormat):
                state = State.from_dict(parse_json(line, path.name))
                states[state.seq] = state
    return [states[seq] for seq in sorted(states)]


def append_state(path: Path, state: State) -> None:
    """Adds a line, over what is left of one that could not be written; only for the holder of the lock.

    Raises:
        OSError: it could not be written.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        length = _whole_length(fd)
        os.ftruncate(fd, length)
        os.lseek(fd, length, os.SEEK_SET)
        write_all(fd, to_json(state.to_dict()))
        os.fsync(fd)
    finally:
        os.close(fd)


def _whole_length(fd: int) -> int:
    """Bytes up to the end of the last whole line: the end of one whose writer was killed is none."""
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0).rfind(b"\n") + 1
