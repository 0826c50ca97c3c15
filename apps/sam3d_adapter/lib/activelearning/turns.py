"""The file of who was shown which case when: shared by all server processes, so that no two annotators get the same."""

import contextlib
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lib.files.atomic_write import replacing
from lib.files.lock import wait_for_lock

logger = logging.getLogger(__name__)

_VERSION = 1
_LOCK_TIMEOUT_S = 5.0


class TurnsError(RuntimeError):
    """The file is in other hands for too long; the text names no path."""


@dataclass(frozen=True)
class Turn:
    """The last time a case was shown.

    Attributes:
        number: of the turn; counts up over all cases, so that the order does not depend on the clock.
        annotator: hash of who got it; "" for one who gave no name.
        held_since: seconds since 1970 from which the case is kept for him; None where it is no longer.
    """

    number: int
    annotator: str
    held_since: float | None


@dataclass
class Turns:
    """The content of the file: the last turn of each case, by the image's id."""

    last: dict[str, Turn] = field(default_factory=dict)

    def give(self, image: str, annotator: str, now: float) -> None:
        """The case is shown now, and kept for him."""
        number = 1 + max((turn.number for turn in self.last.values()), default=0)
        self.last[image] = Turn(number, annotator, now)

    def renew(self, image: str, now: float) -> None:
        """The case is kept for him from now on; it does not count as shown once more."""
        turn = self.last[image]
        self.last[image] = Turn(turn.number, turn.annotator, now)

    def release(self, image: str) -> None:
        """The case is kept for nobody."""
        turn = self.last[image]
        self.last[image] = Turn(turn.number, turn.annotator, None)


def annotator_hash(name: str) -> str:
    """A short text of fixed length, so that neither names nor long texts of a request get into the file."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16] if name else ""


@contextlib.contextmanager
def opened_turns(path: Path) -> Iterator[Turns]:
    """The turns, for this process alone during the ``with`` block, and written at its end unless it fails.

    Args:
        path: of the file; it and its folder are made where they do not exist. A damaged one is begun anew.

    Raises:
        TurnsError: another process keeps it for longer than 5 seconds.
        OSError: it cannot be read or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file of its own, because the one with the content is replaced.
    fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if not wait_for_lock(fd, _LOCK_TIMEOUT_S):
            raise TurnsError("Another process keeps the list of shown cases locked.")
        turns = _read(path)
        yield turns
        _write(path, turns)
    finally:
        os.close(fd)


def _read(path: Path) -> Turns:
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != _VERSION:
            raise ValueError(f"version is {content['version']!r}, not {_VERSION}")
        return Turns({image: _turn(values) for image, values in content["last"].items()})
    except FileNotFoundError:
        return Turns()
    # Whatever is wrong inside: who was shown what is not worth a server that has no next case. RecursionError: [[[[...
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("%s is damaged (%s); who was shown which case is begun anew.", path.name, type(error).__name__)
        return Turns()


def _turn(values: dict[str, Any]) -> Turn:
    turn = Turn(**values)
    since = turn.held_since
    is_time = since is None or (type(since) in (int, float) and math.isfinite(since))
    if type(turn.number) is not int or not isinstance(turn.annotator, str) or not is_time:
        raise ValueError("a turn of the wrong kind")
    return turn


def _write(path: Path, turns: Turns) -> None:
    content = {"version": _VERSION, "last": {image: asdict(turn) for image, turn in turns.last.items()}}
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", opener=_private) as file:
        json.dump(content, file, allow_nan=False)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
