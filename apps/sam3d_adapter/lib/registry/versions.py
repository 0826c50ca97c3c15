"""The versions of one preset and what may be done with them.

Every change has one moment at which it comes into force: the renaming of a version's folder, or of ``served.json``. A
method that raises has changed nothing; one that returns has, and whoever reads sees it from then on. A process may be
killed anywhere: what it leaves is swept away by the next one that takes the lock.
"""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from lib.files.atomic_write import sync_folder
from lib.registry.base import base_of
from lib.registry.errors import ChangedMeanwhile, RegistryError
from lib.registry.files import (
    copy_hashed,
    new_folder,
    private_folder,
    remove_folder,
    to_json,
    write_new,
    write_whole,
)
from lib.registry.reader import FACTS, WEIGHTS
from lib.registry.state import PRUNED, PUBLISHED, REFUSED, ROLLED_BACK, State
from lib.registry.upgrade import upgrade_flat_file
from lib.registry.version import SHIPPED, Facts, Version, make_id, require_name
from lib.registry.writer import VersionsWriter, now

logger = logging.getLogger(__name__)


class Versions(VersionsWriter):
    """All that may be done; built and read as `VersionsReader`."""

    def add(self, weights: Path, facts: Facts) -> Version:
        """Keeps a copy of a weights file as a new version, which is not served.

        Args:
            weights: as `lib.models.checkpoint.save_trained` wrote it.
            facts: what is to be known of it.

        Raises:
            RegistryError: the file is no safetensors file, or something said of it cannot be kept.
            OSError: it could not be read, or the disk could not take it.
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
                sha256, nbytes = copy_hashed(weights, folder / WEIGHTS)
                version = Version(
                    id=make_id(self._next_number(), sha256),
                    preset=self.preset,
                    family=self.family,
                    size=self.size,
                    parent=facts.parent,
                    sha256=sha256,
                    nbytes=nbytes,
                    base_sha256=base_of(folder / WEIGHTS),
                    created=now(),
                    started_by=started_by,
                    data=tuple(facts.data),
                    metrics=dict(facts.metrics),
                    origin=None if facts.origin is None else dict(facts.origin),
                )
                for name, path in facts.files.items():
                    copy_hashed(path, folder / name)
                write_new(folder / FACTS, to_json(version.to_dict()))
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
        """Serves a version from now on, everywhere; ``shipped`` for the weights that the preset names.

        Where the best version so far cannot be loaded any more, this one becomes the best: nothing can be compared
        with a version that is gone.

        Args:
            version_id: which.
            by: who or what decided it.
            reason: why.
            is_best: whether it is the best so far.
            expected: the versions that the decision rests on, served and best as `State` has them; None for whatever
                they are.
            base: the frozen base that the app has now; a best version of another cannot be loaded. None if unknown.

        Raises:
            ChangedMeanwhile: another version is served, or the best, than was expected; nothing was changed.
            RegistryError: there is no such version, or its weights are damaged.
            OSError: the disk could not take it.
        """
        by = require_name(by)
        with self.lock():
            state = self.known_state()
            if expected not in (None, (state.served, state.best)):
                raise self._changed(version_id, state, *expected)
            if version_id != SHIPPED:
                self.verify(version_id)
            trail = state.trail if version_id == state.served else (*state.trail, state.served)
            best = version_id if is_best and version_id != SHIPPED else state.best
            if best is not None and not self._can_be_loaded(best, base):
                best = version_id if version_id != SHIPPED and self._can_be_loaded(version_id, base) else None
                logger.warning(
                    "Preset %s: the best version, %s, cannot be loaded any more. %s counts as the best from now on.",
                    self.preset,
                    state.best,
                    best or SHIPPED,
                )
            self._commit(dataclasses.replace(state, served=version_id, best=best, trail=trail), PUBLISHED, by, reason)

    def roll_back(self, by: str, reason: str = "") -> str:
        """Serves what was served before the present version; its id. Versions that are gone or damaged are passed over.

        The best version stays the best: `publish` says otherwise.

        Raises:
            RegistryError: nothing that is still here was served before.
            OSError: the disk could not take it.
        """
        by = require_name(by)
        with self.lock():
            state = self.known_state()
            for index in reversed(range(len(state.trail))):
                target = state.trail[index]
                if target != state.served and self._is_whole(target):
                    after = dataclasses.replace(state, served=target, trail=state.trail[:index])
                    self._commit(after, ROLLED_BACK, by, reason)
                    return target
        raise RegistryError(
            f"Preset '{self.preset}' serves {state.served}, and nothing that was served before it is still here. "
            f"To serve the weights that the preset names, publish {SHIPPED}."
        )

    def refuse(self, version_id: str, reasons: Sequence[str], by: str = "gate") -> None:
        """Writes down that a version is not to be served, and why; it stays here, and a person may still publish it.

        Raises:
            RegistryError: there is no such version, or it is served.
            OSError: the disk could not take it.
        """
        by = require_name(by)
        with self.lock():
            self.get(version_id)
            state = self.known_state()
            if version_id == state.served:
                raise RegistryError(f"Version {version_id} is served; roll back before it is refused.")
            self._commit(state, REFUSED, by, "; ".join(reasons), version_id)

    def prune(self, keep: int, by: str = "prune", in_use: Iterable[str] = ()) -> list[str]:
        """Removes the weights of old versions; what is known of them stays in the history.

        Never removed are the served version, the best one, the one a rollback would serve, and those that a run holds.

        Args:
            keep: how many of the newest are kept besides.
            by: who or what does it.
            in_use: further versions to keep.

        Returns:
            Ids of those that were removed, oldest first.

        Raises:
            RegistryError: ``keep`` is negative.
            OSError: the disk could not take the history.
        """
        by = require_name(by)
        if keep < 0:
            raise RegistryError(f"keep is {keep}; 0 or more versions can be kept.")
        removed = []
        with self.lock():
            state = self.known_state()
            before = next((name for name in reversed(state.trail) if name != state.served and self._is_whole(name)), "")
            kept = {state.served, state.best, before, *in_use, *self.holds().values()}
            candidates = [name for name in self.ids() if name not in kept]
            for name in candidates[: max(0, len(candidates) - keep)]:
                try:
                    facts = self.get(name).to_dict()
                except (RegistryError, OSError):
                    continue  # damaged: somebody should look at it
                state = self.known_state()
                trail = tuple(served for served in state.trail if served != name)
                self._commit(dataclasses.replace(state, trail=trail), PRUNED, by, f"keep {keep}", name, facts)
                remove_folder(self.path(name))
                removed.append(name)
        return removed

    def hold(self, run_id: str, version_id: str) -> None:
        """Keeps a version from being pruned for as long as the folder of a run exists, or until `release`.

        Raises:
            RegistryError: there is no such version, or the run's name is no name of a folder.
            OSError: the disk could not take it.
        """
        with self.lock():
            if version_id != SHIPPED:
                self.get(version_id)
            path = self._hold_path(run_id)
            private_folder(path.parent.parent)
            path.parent.mkdir(exist_ok=True)
            write_whole(path, f"{version_id}\n".encode())

    def release(self, run_id: str) -> None:
        """Ends `hold`; does nothing where there is none."""
        self._hold_path(run_id).unlink(missing_ok=True)

    def holds(self) -> dict[str, str]:
        """By run, the version it holds."""
        paths = sorted(self.folder.glob("runs/*/holds"))
        return {path.parent.name: path.read_text(encoding="utf-8").strip() for path in paths}

    def _hold_path(self, run_id: str) -> Path:
        if Path(run_id).name != run_id or run_id.startswith("."):
            raise RegistryError(f"{run_id!r} is no name of a run.")
        return self.folder / "runs" / run_id / "holds"

    def _can_be_loaded(self, version_id: str, base: str | None) -> bool:
        """Whether a version is whole, and, where the app's base is known, belongs to that."""
        return self._is_whole(version_id) and (base is None or self.get(version_id).base_sha256 in (None, base))

    def _changed(self, version_id: str, state: State, served: str, best: str | None) -> ChangedMeanwhile:
        """What is no longer as it was; by whom stands in the history."""
        what, before, now_is = ("served version", served, state.served)
        if served == state.served:
            what, before, now_is = ("best version", best or SHIPPED, state.best or SHIPPED)
        return ChangedMeanwhile(
            f"{version_id} was compared with {before} as the {what}, which is {now_is} by now: whether it is as good "
            "as that one was not measured."
        )

    def _take_over(self) -> None:
        upgrade_flat_file(self, self.flat_facts)
