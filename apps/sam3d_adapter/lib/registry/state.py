"""Which version is served, and the history of how it came to that.

``served.json`` holds the state in force; ``history.jsonl`` has one state per line. The state comes into force first, so
a full disk or a killed process may leave the last line out. Nothing is lost: the next writer adds it from
``served.json``.
"""

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.files.atomic_write import write_fully
from lib.registry.errors import DamagedFile, NewerFormat
from lib.registry.json_format import parse_json, to_json
from lib.registry.version import SHIPPED, is_id

PUBLISHED, ROLLED_BACK, REFUSED, PRUNED = ACTIONS = ("published", "rolled back", "refused", "pruned")
_STACK_KEY = "trail"
"""Key of the rollback stack in the files."""


@dataclasses.dataclass(frozen=True)
class Event:
    """One change.

    Attributes:
        action: one of `ACTIONS`.
        version: the version that was changed; for a rollback, the version that is served since.
        at: ISO 8601, UTC.
        by: person or program.
        reason: why; may be empty.
        facts: of a removed version, the content of its version.json.
    """

    action: str
    version: str
    at: str
    by: str
    reason: str = ""
    facts: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class State:
    """What is in force after an event.

    Attributes:
        seq: number of the event, from 1; 0 before the first.
        served: id of the served version.
        best: id of the best version ever published; None while that is the shipped one.
        rollback_stack: versions served before, the last one at the end; a rollback takes from the end.
        event: that led to this.
    """

    seq: int = 0
    served: str = SHIPPED
    best: str | None = None
    rollback_stack: tuple[str, ...] = ()
    event: Event | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        values = dataclasses.asdict(self)
        return {_STACK_KEY if key == "rollback_stack" else key: value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "State":
        """Reads what `to_dict` made.

        Raises:
            DamagedFile: a value is missing, unknown or of another type.
        """
        try:
            event = Event(**values["event"])
            others = {key: value for key, value in values.items() if key != _STACK_KEY}
            state = cls(**{**others, "rollback_stack": tuple(values[_STACK_KEY]), "event": event})
        except (TypeError, KeyError) as error:
            raise DamagedFile(f"served.json lacks or holds another key than expected ({error}).") from error
        texts = (event.version, event.at, event.by, event.reason)
        is_right = (
            isinstance(state.seq, int)
            and state.seq > 0
            and all(name == SHIPPED or is_id(name) for name in (state.served, *state.rollback_stack))
            and (state.best is None or is_id(state.best))
            and event.action in ACTIONS
            and all(isinstance(text, str) for text in texts)
            and (event.facts is None or isinstance(event.facts, dict))
        )
        if not is_right:
            raise DamagedFile("served.json holds a value of the wrong kind: it is damaged.")
        return state


def read_history(path: Path) -> list[State]:
    """The states whose lines are complete, oldest first."""
    states: dict[int, State] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            # Skip a torn line: served.json has the same event.
            with contextlib.suppress(DamagedFile, NewerFormat):
                state = State.from_dict(parse_json(line, path.name))
                states[state.seq] = state
    return [states[seq] for seq in sorted(states)]


def append_state(path: Path, state: State) -> None:
    """Adds a line, in place of a torn last one; only for the holder of the lock.

    Raises:
        OSError: it could not be written.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        length = _complete_length(fd)
        os.ftruncate(fd, length)
        os.lseek(fd, length, os.SEEK_SET)
        write_fully(fd, to_json(state.to_dict()))
        os.fsync(fd)
    finally:
        os.close(fd)


def _complete_length(fd: int) -> int:
    """Bytes up to the end of the last complete line; a killed writer may have left a torn one."""
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0).rfind(b"\n") + 1
