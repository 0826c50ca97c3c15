"""Leases: which annotator was given which case, and when. One file shared by all server processes."""

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
from lib.files.lock import file_lock, locked

logger = logging.getLogger(__name__)

_VERSION = 1
_LOCK_TIMEOUT_S = 5.0


class LeasesError(RuntimeError):
    """Another process keeps the file locked for too long; the text names no path."""


@dataclass(frozen=True)
class Lease:
    """The last time that a case was given to an annotator.

    Attributes:
        number: counts up over all cases, so that the order does not depend on the clock.
        annotator: hash of the annotator's name; "" without a name.
        held_since: start of the lease, seconds since 1970; None if it has ended.
    """

    number: int
    annotator: str
    held_since: float | None


@dataclass
class Leases:
    """Content of the file: the last lease of each case, by image id."""

    last: dict[str, Lease] = field(default_factory=dict)

    def give(self, image: str, annotator: str, now: float) -> None:
        """Starts a lease."""
        number = 1 + max((lease.number for lease in self.last.values()), default=0)
        self.last[image] = Lease(number, annotator, now)

    def renew(self, image: str, now: float) -> None:
        """Restarts the time of a lease; the case does not count as given again."""
        lease = self.last[image]
        self.last[image] = Lease(lease.number, lease.annotator, now)

    def release(self, image: str) -> None:
        """Ends a lease."""
        lease = self.last[image]
        self.last[image] = Lease(lease.number, lease.annotator, None)


def annotator_hash(name: str) -> str:
    """A short hash, so that neither names nor long texts of a request get into the file; "" without a name."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16] if name else ""


@contextlib.contextmanager
def opened_leases(path: Path) -> Iterator[Leases]:
    """The leases, locked during the ``with`` block and written at its end unless it fails.

    Args:
        path: of the file; made with its folder if absent. A damaged file is replaced by an empty one.

    Raises:
        LeasesError: another process keeps it locked for longer than 5 seconds.
        OSError: it cannot be read or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A separate lock file, because the file itself is replaced.
    lock = file_lock(path.with_name(f"{path.name}.lock"), _LOCK_TIMEOUT_S)
    with locked(lock, LeasesError("Another process keeps the list of shown cases locked.")):
        leases = _read(path)
        yield leases
        _write(path, leases)


def _read(path: Path) -> Leases:
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != _VERSION:
            raise ValueError(f"version is {content['version']!r}, not {_VERSION}")
        return Leases({image: _lease(values) for image, values in content["last"].items()})
    except FileNotFoundError:
        return Leases()
    # A damaged file must not leave annotators without a next case. RecursionError: [[[[...
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("%s is damaged (%s); the leases start empty.", path.name, type(error).__name__)
        return Leases()


def _lease(values: dict[str, Any]) -> Lease:
    lease = Lease(**values)
    since = lease.held_since
    is_time = since is None or (type(since) in (int, float) and math.isfinite(since))
    if type(lease.number) is not int or not isinstance(lease.annotator, str) or not is_time:
        raise ValueError("a lease of the wrong kind")
    return lease


def _write(path: Path, leases: Leases) -> None:
    content = {"version": _VERSION, "last": {image: asdict(lease) for image, lease in leases.last.items()}}
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", opener=_private) as file:
        json.dump(content, file, allow_nan=False)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
