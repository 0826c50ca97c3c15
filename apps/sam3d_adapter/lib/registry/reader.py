"""Reading the versions of one preset: any process may do it at any time, without a lock.

A reader never sees half a change: ``served.json`` is replaced atomically, and a version's folder gets its name when all
files are in it.
"""

import contextlib
import logging
import time
from pathlib import Path

from lib.files.checksums import file_sha256
from lib.registry.errors import DamagedFile, RegistryError, UnknownVersion
from lib.registry.json_format import read_json
from lib.registry.state import PRUNED, PUBLISHED, REFUSED, ROLLED_BACK, State, read_history
from lib.registry.version import SHIPPED, Version, is_id, number_of

logger = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
FACTS = "version.json"
CURVE = "curve.json"
"""Training curve; not every version has one."""
# Resolution of file dates: a file that is replaced twice within it may look unchanged.
_TICK_NS = 10**9

Signature = tuple[int, int, int]


class VersionsReader:
    """Reads what there is of one preset and model size; building it touches no file.

    Args:
        folder: of this preset and size; need not exist.
        preset: its name.
        size: of the network.
        family: of the network.
    """

    def __init__(self, folder: Path, preset: str, size: str, family: str) -> None:
        self.folder, self.preset, self.size, self.family = folder, preset, size, family
        self._read: tuple[Signature, State, bool] | None = None

    def state(self) -> State:
        """What is in force; reads the file only if its date has changed.

        Raises:
            DamagedFile: ``served.json`` is damaged and no history says what it was.
            NewerFormat: a later release wrote it.
            OSError: the folder cannot be read.
        """
        path = self.folder / "served.json"
        try:
            stat = path.stat()
        except FileNotFoundError:
            return State()
        signature = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        read = self._read
        if read and read[0] == signature and read[2]:
            return read[1]
        # Taken before reading: if the file is replaced meanwhile, it is read again.
        is_settled = abs(time.time_ns() - stat.st_mtime_ns) > _TICK_NS
        try:
            state = State.from_dict(read_json(path))
        except DamagedFile as error:
            known = read_history(self.folder / "history.jsonl")
            if not known:
                raise
            state = known[-1]
            if read is None or read[0] != signature:
                logger.error("Preset %s: %s Its state is taken from the history.", self.preset, error)
        if read and read[1] == state:
            state = read[1]  # the same object: callers compare by identity
        self._read = (signature, state, is_settled)
        return state

    def known_state(self) -> State:
        """As `state`, but an unreadable file counts as the initial state; `problems` reports it.

        Raises:
            NewerFormat: a later release wrote it.
            OSError: the folder cannot be read.
        """
        try:
            return self.state()
        except DamagedFile:
            return State()

    def served(self) -> Version | None:
        """The version that is served; None for the shipped weights.

        Raises:
            RegistryError: the state cannot be read, or the version is damaged.
        """
        served = self.state().served
        return None if served == SHIPPED else self.get(served)

    def best(self) -> Version | None:
        """The best version ever published; None where there is none but the shipped one.

        Raises:
            RegistryError: as `served`.
        """
        best = self.state().best
        return None if best is None else self.get(best)

    def ids(self) -> list[str]:
        """Ids of the versions in the folder, oldest first; some may be damaged."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(filter(is_id, (path.name for path in (self.folder / "versions").iterdir())), key=number_of)
        return []

    def get(self, version_id: str) -> Version:
        """What is known of a version.

        Raises:
            UnknownVersion: no version here has that id; the text lists those that exist.
            DamagedFile: its ``version.json`` is damaged, or speaks of another version.
            NewerFormat: a later release wrote it.
        """
        if not is_id(version_id):
            raise self._unknown(version_id)
        try:
            version = Version.from_dict(read_json(self.path(version_id) / FACTS))
        except (FileNotFoundError, NotADirectoryError) as error:
            if self.path(version_id).is_dir():
                raise DamagedFile(f"Version {version_id} has no {FACTS}: it is damaged.") from error
            raise self._unknown(version_id) from error
        except DamagedFile as error:
            raise DamagedFile(f"Version {version_id} of preset '{self.preset}': {error}") from error
        if (version.id, version.preset, version.size) != (version_id, self.preset, self.size):
            raise DamagedFile(
                f"Version {version_id} of preset '{self.preset}', size '{self.size}', says of itself that it is "
                f"{version.id} of '{version.preset}', '{version.size}': a folder was moved or copied by hand."
            )
        return version

    def versions(self) -> list[Version]:
        """All that can be read, oldest first; `problems` reports the others."""
        found = []
        for version_id in self.ids():
            # Another process may remove a folder just now.
            with contextlib.suppress(RegistryError, OSError):
                found.append(self.get(version_id))
        return found

    def problems(self) -> list[str]:
        """What cannot be read, one sentence each; does not read weights."""
        found = []
        for version_id in (None, *self.ids()):
            try:
                _ = self.state() if version_id is None else self.get(version_id)
            except UnknownVersion:
                continue
            except (RegistryError, OSError) as error:
                found.append(str(error) if isinstance(error, RegistryError) else f"{error.strerror}.")
        return found

    def path(self, version_id: str) -> Path:
        """The folder of a version, with all files kept with it."""
        return self.folder / "versions" / version_id

    def weights(self, version_id: str) -> Path:
        """The weights file of a version; its content is not checked.

        Raises:
            UnknownVersion: no version here has that id.
        """
        if not is_id(version_id) or not self.path(version_id).is_dir():
            raise self._unknown(version_id)
        return self.path(version_id) / WEIGHTS

    def verify(self, version_id: str) -> Version:
        """The version, after its weights were compared with the recorded sha256.

        Raises:
            RegistryError: as `get`; or the weights differ.
        """
        version = self.get(version_id)
        try:
            found = file_sha256(self.path(version_id) / WEIGHTS)
        except OSError as error:
            if not self.path(version_id).is_dir():
                raise self._unknown(version_id) from error
            raise DamagedFile(f"The weights of version {version_id} cannot be read: {error.strerror}.") from error
        if found != version.sha256:
            raise DamagedFile(
                f"The weights of version {version_id} are damaged: their sha256 is {found}, expected {version.sha256}. "
                "Restore its folder from a backup, or use another version."
            )
        return version

    def find(self, sha256: str) -> Version | None:
        """The newest version with these weights, if they are here."""
        return next((version for version in reversed(self.versions()) if version.sha256 == sha256), None)

    def history(self) -> list[State]:
        """All states, oldest first."""
        # State first: the history then lacks at most this one event, whatever is written in between.
        state = self.known_state()
        known = read_history(self.folder / "history.jsonl")
        return [*known, state] if state.seq > (known[-1].seq if known else 0) else known

    def pruned(self) -> dict[str, Version]:
        """The versions that were removed, by id."""
        found = {}
        for state in self.history():
            if state.event and state.event.action == PRUNED and state.event.facts is not None:
                with contextlib.suppress(DamagedFile):
                    found[state.event.version] = Version.from_dict(state.event.facts)
        return found

    def answered_or_imported(self) -> set[str]:
        """Ids of versions that were ever served (the audit names them) and of imported ones."""
        states = [*self.history(), self.known_state()]
        served = {name for state in states for name in (state.served, *state.rollback_stack)}
        return served | {version.id for version in self.versions() if version.origin is not None}

    def stages(self) -> dict[str, str]:
        """Stage of each version by id: trained, published, refused, served or pruned."""
        stages = dict.fromkeys(self.ids(), "trained")
        for state in self.history():
            event = state.event
            if event is None:
                continue
            if event.action in (PUBLISHED, ROLLED_BACK):
                stages[event.version] = "published"
            elif event.action in (REFUSED, PRUNED):
                stages[event.version] = event.action
        stages.pop(SHIPPED, None)
        served = self.known_state().served
        return {name: "served" if name == served else stage for name, stage in stages.items()}

    def events_of(self, version_id: str) -> list[State]:
        """The states whose event concerns one version, oldest first."""
        return [state for state in self.history() if state.event and state.event.version == version_id]

    def _unknown(self, version_id: str) -> UnknownVersion:
        try:
            pruned = is_id(version_id) and version_id in self.pruned()
        except (RegistryError, OSError):
            pruned = False
        why = " (its weights were removed by pruning)" if pruned else ""
        return UnknownVersion(
            f"Preset '{self.preset}' has no version {str(version_id)[:80]!r}{why}; choose from: "
            f"{', '.join([SHIPPED, *self.ids()])}."
        )
