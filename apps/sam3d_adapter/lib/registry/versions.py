"""Changing the versions of one preset: one writer at a time, each change in force at one moment.

That moment is the rename of a version's folder or of ``served.json``. A method that raises has changed nothing; after
one that returns, every reader sees the change. A process may be killed at any point: the next one that takes the lock
removes what it left.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lib.files.atomic_write import sync_folder, write_atomically, write_synced
from lib.files.checksums import copy_with_sha256
from lib.files.folders import (
    close_to_others,
    new_folder,
    private_folder,
    remove_folder,
    remove_leftovers,
    temporary_folders,
)
from lib.files.lock import file_lock, locked
from lib.registry.errors import ChangedMeanwhile, RegistryBusy, RegistryError
from lib.registry.json_format import to_json
from lib.registry.reader import FACTS, WEIGHTS, VersionsReader
from lib.registry.state import PRUNED, PUBLISHED, REFUSED, ROLLED_BACK, Event, State, append_state, read_history
from lib.registry.upgrade import FLAT_ORIGIN, read_flat_file
from lib.registry.version import SHIPPED, Facts, Version, base_of, make_id, number_of, require_name

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 30.0
"""How long a writer waits: others copy files of some hundred megabytes at most."""
_MOST_ROLLBACKS = 100
_MOST_REASON = 2000


class Versions(VersionsReader):
    """Reads as `VersionsReader`, and changes.

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
        self._lock = file_lock(folder / "lock", lock_timeout_s)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps all other writers out during the ``with`` block; every change takes the lock itself.

        Raises:
            RegistryBusy: another process kept it.
            NewerFormat: a later release of the app has written here.
            OSError: the folder cannot be written to.
        """
        busy = RegistryBusy(
            f"Another process has kept the versions locked for {self._lock.timeout:g} s. Try again; if it stays so, "
            "look for a training or a command that hangs."
        )
        with locked(self._lock, busy):
            if self._lock.lock_counter == 1:
                self._tidy()
            yield

    def prepare(self) -> None:
        """Removes what killed processes left and upgrades what an earlier release kept; for the server's start.

        If there is nothing to do, it makes no folder.

        Raises:
            RegistryError: as `lock`.
            OSError: as `lock`.
        """
        if self.folder.exists() or self._flat_facts.exists():
            with self.lock():
                pass

    def add(self, weights: Path, facts: Facts) -> Version:
        """Keeps a copy of a weights file as a new version, which is not served.

        Args:
            weights: written by `lib.models.checkpoint.save_trained`.
            facts: what is known of it.

        Raises:
            RegistryError: the file is no safetensors file, or a fact cannot be kept.
            OSError: it could not be read, or the disk is full.
        """
        started_by = require_name(facts.started_by, "started_by")
        reserved = {WEIGHTS, FACTS} & facts.files.keys()
        if reserved or any(Path(name).name != name or name.startswith(".") for name in facts.files):
            raise RegistryError(f"Files {sorted(facts.files)} cannot be kept under these names.")
        with self.lock():
            if facts.parent not in (None, SHIPPED) and facts.parent not in {*self.ids(), *self.pruned()}:
                raise self._unknown(str(facts.parent))
            folder = new_folder(self.folder / "versions")
            try:
                sha256, nbytes = copy_with_sha256(weights, folder / WEIGHTS)
                version = Version(
                    id=make_id(self._next_number(), sha256),
                    preset=self.preset,
                    family=self.family,
                    size=self.size,
                    parent=facts.parent,
                    sha256=sha256,
                    nbytes=nbytes,
                    base_sha256=base_of(folder / WEIGHTS),
                    created=_now(),
                    started_by=started_by,
                    data=tuple(facts.data),
                    metrics=dict(facts.metrics),
                    origin=None if facts.origin is None else dict(facts.origin),
                )
                for name, path in facts.files.items():
                    copy_with_sha256(path, folder / name)
                write_synced(folder / FACTS, to_json(version.to_dict()))
                sync_folder(folder)
                folder.rename(self.path(version.id))
            except BaseException:
                remove_folder(folder)
                raise
            sync_folder(self.folder / "versions")
            return version

    def publish(
        self,
        version_id: str,
        by: str,
        reason: str = "",
        is_best: bool = False,
        *,
        expected: tuple[str, str | None] | None = None,
        base: str | None = None,
    ) -> None:
        """Serves a version from now on, in all processes; ``shipped`` for the weights that the preset names.

        If the best version so far can no longer be loaded, this one becomes the best: no candidate can be compared
        with a lost version.

        Args:
            version_id: the version.
            by: person or program that decided it.
            reason: why.
            is_best: whether it is the best so far.
            expected: the served and the best version that the decision rests on, as in `State`; None to skip the check.
            base: sha256 of the app's frozen base; a best version of another base cannot be loaded. None if unknown.

        Raises:
            ChangedMeanwhile: another version is served, or is the best, than expected; nothing was changed.
            RegistryError: there is no such version, or its weights are damaged.
            OSError: the disk is full.
        """
        by = require_name(by)
        with self.lock():
            state = self.known_state()
            if expected not in (None, (state.served, state.best)):
                raise self._changed(version_id, state, *expected)
            if version_id != SHIPPED:
                self.verify(version_id)
            stack = state.rollback_stack if version_id == state.served else (*state.rollback_stack, state.served)
            best = version_id if is_best and version_id != SHIPPED else state.best
            if best is not None and not self._can_be_loaded(best, base):
                best = version_id if version_id != SHIPPED and self._can_be_loaded(version_id, base) else None
                logger.warning(
                    "Preset %s: the best version, %s, cannot be loaded any more. %s counts as the best from now on.",
                    self.preset,
                    state.best,
                    best or SHIPPED,
                )
            after = dataclasses.replace(state, served=version_id, best=best, rollback_stack=stack)
            self._commit(after, PUBLISHED, by, reason)

    def roll_back(self, by: str, reason: str = "") -> str:
        """Serves the version that was served before the present one; returns its id. Skips lost and damaged versions.

        The best version stays the best; only `publish` changes it.

        Raises:
            RegistryError: no version that was served before is still here.
            OSError: the disk is full.
        """
        by = require_name(by)
        with self.lock():
            state = self.known_state()
            stack = state.rollback_stack
            for index in reversed(range(len(stack))):
                target = stack[index]
                if target != state.served and self._is_intact(target):
                    after = dataclasses.replace(state, served=target, rollback_stack=stack[:index])
                    self._commit(after, ROLLED_BACK, by, reason)
                    return target
        raise RegistryError(
            f"Preset '{self.preset}' serves {state.served}, and nothing that was served before it is still here. "
            f"To serve the weights that the preset names, publish {SHIPPED}."
        )

    def refuse(self, version_id: str, reasons: Sequence[str], by: str = "gate") -> None:
        """Records that a version is not to be served, and why; a person may still publish it.

        Raises:
            RegistryError: there is no such version, or it is served.
            OSError: the disk is full.
        """
        by = require_name(by)
        with self.lock():
            self.get(version_id)
            state = self.known_state()
            if version_id == state.served:
                raise RegistryError(f"Version {version_id} is served; roll back before it is refused.")
            self._commit(state, REFUSED, by, "; ".join(reasons), version_id)

    def prune(self, keep: int, by: str = "prune", in_use: Iterable[str] = ()) -> list[str]:
        """Removes the weights of old versions; their facts stay in the history.

        It never removes the served version, the best one, the target of the next rollback, or a pinned one.

        Args:
            keep: how many of the newest other versions to keep.
            by: person or program that does it.
            in_use: further versions to keep.

        Returns:
            Ids of the removed versions, oldest first.

        Raises:
            RegistryError: ``keep`` is negative.
            OSError: the disk is full, so that the history cannot be written.
        """
        by = require_name(by)
        if keep < 0:
            raise RegistryError(f"keep is {keep}; 0 or more versions can be kept.")
        removed = []
        with self.lock():
            state = self.known_state()
            earlier = reversed(state.rollback_stack)
            before = next((name for name in earlier if name != state.served and self._is_intact(name)), "")
            kept = {state.served, state.best, before, *in_use, *self.pins().values()}
            candidates = [name for name in self.ids() if name not in kept]
            for name in candidates[: max(0, len(candidates) - keep)]:
                try:
                    facts = self.get(name).to_dict()
                except (RegistryError, OSError):
                    continue  # damaged: a person should look at it
                state = self.known_state()
                stack = tuple(served for served in state.rollback_stack if served != name)
                after = dataclasses.replace(state, rollback_stack=stack)
                self._commit(after, PRUNED, by, f"keep {keep}", name, facts)
                remove_folder(self.path(name))
                removed.append(name)
        return removed

    def pin(self, run_id: str, version_id: str) -> None:
        """Protects a version from `prune` until `unpin`, or until the run's folder is gone.

        Raises:
            RegistryError: there is no such version, or the run's name is no folder name.
            OSError: the disk is full.
        """
        with self.lock():
            if version_id != SHIPPED:
                self.get(version_id)
            path = self._pin_path(run_id)
            private_folder(path.parent.parent)
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, f"{version_id}\n".encode())

    def unpin(self, run_id: str) -> None:
        """Ends `pin`; does nothing where there is no pin."""
        self._pin_path(run_id).unlink(missing_ok=True)

    def pins(self) -> dict[str, str]:
        """The pinned version of each run."""
        paths = sorted(self.folder.glob("runs/*/holds"))
        return {path.parent.name: path.read_text(encoding="utf-8").strip() for path in paths}

    def _pin_path(self, run_id: str) -> Path:
        if Path(run_id).name != run_id or run_id.startswith("."):
            raise RegistryError(f"{run_id!r} is no name of a run.")
        return self.folder / "runs" / run_id / "holds"

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
        # served.json holds only the last event, so the one before must be in the history first.
        self._complete_history()
        event = Event(action, version_id or after.served, _now(), by, reason.strip()[:_MOST_REASON], facts)
        stack = after.rollback_stack[-_MOST_ROLLBACKS:]
        state = dataclasses.replace(after, seq=self._last_seq() + 1, rollback_stack=stack, event=event)
        write_atomically(self.folder / "served.json", to_json(state.to_dict()))
        # The history says by whom: names of people do not belong in the log.
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

    def _next_number(self) -> int:
        past = {state.event.version for state in read_history(self.folder / "history.jsonl") if state.event}
        return max(map(number_of, {*self.ids(), *past, *self.known_state().rollback_stack}), default=0) + 1

    def _tidy(self) -> None:
        self.known_state()  # raises for a newer format, which must not be touched
        # Only what is written under this lock: a training writes its own files beside it under another one.
        left = [*self.folder.glob("served.json.*.partial"), *self.folder.glob("runs/*/holds.*.partial")]
        remove_leftovers([*left, *temporary_folders(self.folder / "versions")])
        close_to_others(self.folder / "versions")  # earlier releases left it open
        try:
            self._complete_history()
            for name in set(self.pruned()) & set(self.ids()):
                remove_folder(self.path(name))
            self._upgrade()
        except OSError as error:
            # The change itself does not depend on it; if it does, it will fail by itself.
            logger.warning("The versions of preset %s could not be tidied: %s.", self.preset, error.strerror)

    def _upgrade(self) -> None:
        """Publishes what format 1 kept as a version; a killed upgrade goes on at the next lock.

        The old weights file stays, because a preset may name it. The old JSON is renamed at the end. A damaged file
        stays as it is, with a warning: the shipped weights are then served.
        """
        facts_path = self._flat_facts
        try:
            flat = read_flat_file(facts_path, self.size)
            if flat is None:
                return
            found = self.find(flat.sha256)
            if found is None or found.origin != FLAT_ORIGIN:
                found = self.add(flat.weights, flat.facts)
            if not self.events_of(found.id):
                self.publish(found.id, "upgrade", "served before versions were kept")
            facts_path.replace(facts_path.with_name(f"{facts_path.name}.upgraded"))
            logger.info("Preset %s: what an earlier release kept is now version %s.", self.preset, found.id)
        except (RegistryError, ValueError, TypeError) as error:
            logger.warning("Preset %s: what an earlier release kept is not taken over: %s.", self.preset, error)

    @property
    def _flat_facts(self) -> Path:
        """JSON of this preset's version in format 1."""
        return self.folder.parent.parent / f"{self.preset}.json"

    def _is_intact(self, version_id: str) -> bool:
        try:
            return version_id == SHIPPED or bool(self.verify(version_id))
        except (RegistryError, OSError):
            return False

    def _can_be_loaded(self, version_id: str, base: str | None) -> bool:
        """Whether a version is intact and needs the app's base, where that is known."""
        return self._is_intact(version_id) and (base is None or self.get(version_id).base_sha256 in (None, base))

    def _changed(self, version_id: str, state: State, served: str, best: str | None) -> ChangedMeanwhile:
        """Says what has changed; the history says by whom."""
        what, before, now_is = ("served version", served, state.served)
        if served == state.served:
            what, before, now_is = ("best version", best or SHIPPED, state.best or SHIPPED)
        return ChangedMeanwhile(
            f"{version_id} was compared with {before} as the {what}, which is {now_is} by now: whether it is as good "
            "as that one was not measured."
        )


def _now() -> str:
    """The time as in the files."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
