"""Models held by the server process: loaded on first use, verified, one copy per weights and device."""

import logging
import threading
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from pathlib import Path

import torch

from lib.models.checkpoint_error import CheckpointError
from lib.segmenters import families
from lib.segmenters.contract import LoadedModel
from lib.segmenters.frozen_store import FrozenStore

logger = logging.getLogger(__name__)

FileSignature = tuple[int, int, int]  # inode, size in bytes, modification time in ns


@dataclass(frozen=True)
class ModelSpec:
    """What identifies a model.

    Attributes:
        family: a name in `lib.segmenters.families`.
        size: one of the family's sizes.
        files: in the order of the family's ``files``.
        sha256: what the weights must have; None where any will do.
    """

    family: str
    size: str
    files: tuple[Path, ...]
    sha256: str | None = None

    @property
    def weights(self) -> Path:
        """The file whose sha256 is the model's version."""
        return self.files[-1]

    def missing_files(self) -> list[Path]:
        """Those of the files that do not exist."""
        return [path for path in self.files if not path.is_file()]

    def signature(self) -> tuple[FileSignature, ...]:
        """Changes whenever one of the files is replaced.

        Raises:
            OSError: a file does not exist.
        """
        stats = [path.stat() for path in self.files]
        return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


@dataclass(frozen=True)
class _Slot:
    signature: tuple[FileSignature, ...]
    loaded: LoadedModel | None
    error: str | None


class ModelStore:
    """Loads models when first asked and keeps them; presets with the same files share one copy, presets with the same
    base its tensors.

    Files that are replaced are picked up at the next request. If the new ones do not verify, the model that is already
    held keeps serving and the log says why; if there is none, the reason is remembered, so that a broken file of
    several hundred megabytes is not read again at every click.

    Models that are held are handed out while another one is being loaded.
    """

    def __init__(self) -> None:
        self._slots: dict[tuple[ModelSpec, str], _Slot] = {}
        self._retained: dict[Hashable, frozenset[ModelSpec]] = {}
        self._device_locks: dict[str, threading.Lock] = {}
        self._frozen = FrozenStore()
        self._lock = threading.Lock()
        # One at a time: two that load the same base at once would not share it.
        self._loading = threading.Lock()

    def get(self, spec: ModelSpec, device: str) -> LoadedModel:
        """The verified model on ``device`` (``"cpu"``, ``"cuda:0"``).

        Raises:
            CheckpointError: a file is missing or does not verify.
        """
        slot = self._current(spec, device)
        if slot is None:
            with self._loading:
                slot = self._current(spec, device) or self._load(spec, device)
        if slot.loaded is None:
            raise CheckpointError(slot.error or "Weights could not be loaded.")
        return slot.loaded

    def is_at_hand(self, spec: ModelSpec, device: str) -> bool:
        """Whether `get` answers without reading the files, be it with their fault."""
        try:
            return self._current(spec, device) is not None
        except CheckpointError:
            return True

    def devices(self, spec: ModelSpec) -> list[str]:
        """Where the model is held."""
        with self._lock:
            return [device for (held, device), slot in self._slots.items() if held == spec and slot.loaded]

    def retain(self, owner: Hashable, specs: Collection[ModelSpec], dropped: Collection[ModelSpec] = ()) -> None:
        """Says which models one of the store's users wants kept, and which it has asked for and wants no longer.

        Those go unless another user wants them kept. Requests that still run on such a model finish on it.
        """
        with self._lock:
            self._retained[owner] = frozenset(specs)
            gone = frozenset(dropped).difference(*self._retained.values())
            for key in [key for key in self._slots if key[0] in gone]:
                del self._slots[key]

    def problem(self, spec: ModelSpec) -> str | None:
        """Why the model cannot be served, without loading anything: missing files, or what an earlier attempt said."""
        missing = spec.missing_files()
        if missing:
            return f"missing: {', '.join(path.name for path in missing)}"
        with self._lock:
            slots = [slot for (held, _), slot in self._slots.items() if held == spec]
        failed = [slot for slot in slots if slot.loaded is None]
        return failed[0].error if failed and failed[0].signature == spec.signature() else None

    def _current(self, spec: ModelSpec, device: str) -> _Slot | None:
        """What is known of the files as they are now; None if they are to be read.

        Raises:
            CheckpointError: a file is missing, and no model is held.
        """
        with self._lock:
            slot = self._slots.get((spec, device))
        missing = spec.missing_files()
        if missing:
            if slot and slot.loaded:
                return slot
            raise CheckpointError(f"Weights not found: {', '.join(map(str, missing))}.")
        return slot if slot and slot.signature == spec.signature() else None

    def _load(self, spec: ModelSpec, device: str) -> _Slot:
        signature = spec.signature()
        with self._lock:
            slot = self._slots.get((spec, device))
            lock = self._device_locks.setdefault(device, threading.Lock())
        held = slot.loaded if slot else None
        try:
            family = families()[spec.family]
            files = dict(zip(family.files, spec.files, strict=True))
            model, report = family.load(spec.size, files, device, self._frozen)
            if spec.sha256 not in (None, report.version):
                raise CheckpointError(
                    f"{spec.weights}: its sha256 is {report.version}, expected {spec.sha256}: the file is damaged."
                )
        except CheckpointError as error:
            if held:
                logger.warning("Keeping model %s: the replaced files do not verify: %s", held.version[:12], error)
            else:
                logger.error("Model not served: %s", error)
            slot = _Slot(signature, held, str(error))
        else:
            logger.info("Loaded %s %s model %s on %s.", spec.family, spec.size, report.version[:12], device)
            slot = _Slot(signature, LoadedModel(model, report.version, torch.device(device), lock), None)
        with self._lock:
            self._slots[spec, device] = slot
        return slot
