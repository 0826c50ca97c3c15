"""How the versions of a preset are written to: one writer at a time, one moment at which a change is in force."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lib.registry.errors import RegistryError
from lib.registry.files import close_to_others, remove_folder, sweep, to_json, write_whole
from lib.registry.history import append_state, read_history
from lib.registry.lock import LOCK_TIMEOUT_S, FolderLock
from lib.registry.reader import VersionsReader
from lib.registry.state import Event, State
from lib.registry.version import SHIPPED, number_of

logger = logging.getLogger(__name__)

_MOST_TRAIL = 100
_MOST_REASON = 2000


class VersionsWriter(VersionsReader):
    """Reads as `VersionsReader`, and holds the lock, commits, and tidies up after those who were killed.

    Args:
        folder: of this preset and size; made with the first change.
        preset: its name.
        size: of the network.
        family: of the network.
        lock_timeout_s: how long a change waits for another process.
    """

    def __init__(
        self, folder: Path, preset: str, size: str, family: str, *, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> None:
        super().__init__(folder, preset, size, family)
        self._lock = FolderLock(folder / "lock", lock_timeout_s)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Nobody else changes anything for the time of the ``with`` block; every change takes it by itself.

        Raises:
            RegistryBusy: another process kept it.
            NewerFormat: a later release of the app has written here.
            OSError: the folder cannot be written to.
        """
        with self._lock() as is_outermost:
            if is_outermost:
                self._tidy()
            yield

    def prepare(self) -> None:
        """Sweeps away what killed processes left and takes over what an earlier release kept; for the server's start.

        Does nothing, and makes no folder, where there is nothing to do.

        Raises:
            RegistryError: as `lock`.
            OSError: as `lock`.
        """
        if self.folder.exists() or self.flat_facts.exists():
            with self.lock():
                pass

    @property
    def flat_facts(self) -> Path:
        """Where format 1 kept what it knew of this preset's version."""
        return self.folder.parent.parent / f"{self.preset}.json"

    def _commit(
        self,
        after: State,
        action: str,
        by: str,
        reason: str,
        version_id: str | None = None,
        facts: dict[str, object] | None = None,
    ) -> None:
        """Puts an event in force, then adds it to the history."""
        # The event before must be in the history first: served.json holds the last one alone.
        self._complete_history()
        event = Event(action, version_id or after.served, now(), by, reason.strip()[:_MOST_REASON], facts)
        state = dataclasses.replace(after, seq=self._last_seq() + 1, trail=after.trail[-_MOST_TRAIL:], event=event)
        write_whole(self.folder / "served.json", to_json(state.to_dict()))
        # By whom stands in the history: names of people do not belong into the log.
        logger.info("Preset %s: %s %s.", self.preset, event.version, action)
        with contextlib.suppress(OSError):
            append_state(self.folder / "history.jsonl", state)

    def _complete_history(self) -> None:
        path = self.folder / "history.jsonl"
        known = read_history(path)
        state = self.known_state()
        if state.seq > (known[-1].seq if known else 0):
            append_state(path, state)

    def _last_seq(self) -> int:
        known = read_history(self.folder / "history.jsonl")
        return max(self.known_state().seq, known[-1].seq if known else 0)

    def _tidy(self) -> None:
        self.known_state()  # raises for a newer format, of which nothing may be touched
        sweep(self.folder)
        close_to_others(self.folder / "versions")  # earlier releases left it open
        try:
            self._complete_history()
            for name in set(self.pruned()) & set(self.ids()):
                remove_folder(self.path(name))
            self._take_over()
        except OSError as error:
            # What was to be done does not depend on it; if it does, it will fail by itself.
            logger.warning("The versions of preset %s could not be tidied: %s.", self.preset, error.strerror)

    def _take_over(self) -> None:
        """Makes a version of what an earlier release kept."""

    def _next_number(self) -> int:
        past = {state.event.version for state in read_history(self.folder / "history.jsonl") if state.event}
        return max(map(number_of, {*self.ids(), *past, *self.known_state().trail}), default=0) + 1

    def _is_whole(self, version_id: str) -> bool:
        try:
            return version_id == SHIPPED or bool(self.verify(version_id))
        except (RegistryError, OSError):
            return False


def now() -> str:
    """The time, as files have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
