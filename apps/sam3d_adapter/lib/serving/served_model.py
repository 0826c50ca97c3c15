"""Which version of a preset answers a request, and what answers where that one cannot."""

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lib.files.checksums import file_sha256
from lib.models.checkpoint_error import CheckpointError
from lib.registry.errors import RegistryError
from lib.registry.state import State
from lib.registry.version import SHIPPED
from lib.registry.versions import Versions
from lib.segmenters.contract import LoadedModel
from lib.serving.model_store import FileSignature, ModelSpec, ModelStore

logger = logging.getLogger(__name__)

SWITCH_WAIT_S = 2.0
"""How long a request waits for a version published meanwhile; then it gets its whole answer from the one before."""
_RETRY_S = 60.0
_OUT_OF_MEMORY = "out of memory"

_REFUSED = (CheckpointError, torch.OutOfMemoryError, MemoryError, OSError)


@dataclass(frozen=True)
class Choice:
    """A version that may answer.

    Attributes:
        version: its id, or ``shipped``.
        spec: its files.
    """

    version: str
    spec: ModelSpec


@dataclass(frozen=True)
class Answering:
    """What answers one request, from its first step to its last.

    Attributes:
        loaded: the model.
        version: its id, or ``shipped``.
        warning: why it is not the version that was published; None where it is.
    """

    loaded: LoadedModel
    version: str
    warning: str | None = None


@dataclass(frozen=True)
class Status:
    """How a preset stands.

    Attributes:
        version: the id that is served, or ``shipped``; None where that cannot be told.
        problem: why it cannot be; None where nothing is known to be wrong.
        can_answer: whether that one or another can answer.
    """

    version: str | None
    problem: str | None
    can_answer: bool


class ServedModel:
    """The model of one preset; asked once for each request.

    A version that was published meanwhile is loaded beside the one that answers, and takes its place when it is
    there. Where it cannot be loaded, the one that answers stays; where there is none yet, those that were served before
    are tried, then the weights of the preset.

    Args:
        preset: its name.
        shipped: the files that the preset names.
        store: loads and holds the models.
        versions: of the preset; None to serve its own weights alone.
    """

    def __init__(self, preset: str, shipped: ModelSpec, store: ModelStore, versions: Versions | None = None) -> None:
        self.versions = versions
        self._preset, self._store = preset, store
        self._shipped = Choice(SHIPPED, shipped)
        self._held: dict[str, tuple[Choice, LoadedModel]] = {}
        self._before: dict[str, Choice] = {}
        self._asked: set[ModelSpec] = set()
        self._loading: dict[tuple[ModelSpec, str], threading.Event] = {}
        self._short: dict[tuple[ModelSpec, str], float] = {}
        self._said: str | None = None
        self._wanted: tuple[State, Choice] | None = None
        self._lock = threading.Lock()

    def get(self, device: str) -> Answering:
        """What is to answer a request on ``device``.

        Raises:
            CheckpointError: no version of the preset can be served.
        """
        held, model = self._held.get(device, (None, None))
        try:
            choice = self._served()
        except (RegistryError, OSError) as error:
            return self._instead(device, self._told(error))
        is_ready = held in (None, choice) or self._is_short(choice, device) or self._is_ready(choice, device)
        if self._is_short(choice, device):
            return self._instead(device, f"version {choice.version}: {_OUT_OF_MEMORY}")
        if held is not None and model is not None and not is_ready:
            return Answering(model, held.version)
        try:
            return self._hold(choice, device)
        except _REFUSED as error:
            if choice == self._shipped and held in (None, choice):
                raise
            self._remember_shortage(choice.spec, device, error)
            reason = self._told(error)
        # Outside of the handler: the exception keeps alive what was loaded of the model.
        return self._instead(device, f"version {choice.version}: {reason}")

    @property
    def shipped_weights(self) -> Path:
        """The file of the weights that the preset names itself."""
        return self._shipped.spec.weights

    def missing_files(self) -> list[Path]:
        """Files of the preset without which no request can be answered; empty while anything can answer."""
        with contextlib.suppress(RegistryError, OSError):
            if not self._served().spec.missing_files():
                return []
        if any(not choice.spec.missing_files() for choice in self._fallbacks()):
            return []
        return self._shipped.spec.missing_files()

    def status(self) -> Status:
        """What would answer, without loading anything."""
        try:
            choice = self._served()
            problem = self._store.problem(choice.spec)
        except (RegistryError, OSError) as error:
            choice, problem = None, self._told(error)
        if problem is None or choice == self._shipped:
            return Status(choice.version if choice else SHIPPED, problem and self._told(problem), problem is None)
        can_answer = bool(self._held) or any(self._store.problem(other.spec) is None for other in self._fallbacks())
        return Status(choice.version if choice else None, self._told(problem), can_answer)

    def weights_sha256(self) -> str:
        """sha256 of the weights that are to be served, without loading them.

        Raises:
            RegistryError: which those are cannot be told.
            OSError: they cannot be read.
        """
        spec = self._served().spec
        return spec.sha256 or _sha256(spec.weights, spec.signature()[-1])

    def prepare(self, version: str) -> None:
        """Loads a version wherever the preset answers now, so that no request has to wait for it once it is published.

        Raises:
            RegistryError: there is no such version.
            CheckpointError: it cannot be served.
        """
        choice = self._choice(version)
        for device in tuple(self._held):
            self._load(choice.spec, device)

    def _served(self) -> Choice:
        """What is to be served.

        Raises:
            RegistryError: which version that is cannot be told.
            OSError: the registry cannot be read.
        """
        if self.versions is None:
            return self._shipped
        state = self.versions.state()
        wanted = self._wanted
        if wanted is None or wanted[0] is not state or not wanted[1].spec.weights.exists():
            wanted = self._wanted = (state, self._choice(state.served))
        return wanted[1]

    def _choice(self, version_id: str) -> Choice:
        if version_id == SHIPPED or self.versions is None:
            return self._shipped
        version = self.versions.get(version_id)
        shipped = self._shipped.spec
        files = (*shipped.files[:-1], self.versions.weights(version_id))
        return Choice(version_id, replace(shipped, files=files, sha256=version.sha256))

    def _instead(self, device: str, reason: str) -> Answering:
        """The best there is where what is wanted cannot be had: what answers now, or a fallback.

        Raises:
            CheckpointError: there is nothing else.
        """
        held = self._held.get(device)
        answering = Answering(held[1], held[0].version) if held else self._fall_back(device)
        warning = f"The published model could not be used ({reason}); {answering.version} answered instead."
        if warning != self._said:
            self._said = warning
            logger.error("Preset %s: %s", self._preset, warning)
        return replace(answering, warning=warning)

    def _fall_back(self, device: str) -> Answering:
        for choice in self._fallbacks():
            if choice == self._shipped:
                break
            with contextlib.suppress(*_REFUSED):
                return self._hold(choice, device)
        return self._hold(self._shipped, device)

    def _fallbacks(self) -> Iterator[Choice]:
        """What was served before, the last one first, then the weights of the preset."""
        trail: tuple[str, ...] = ()
        if self.versions is not None:
            with contextlib.suppress(RegistryError, OSError):
                trail = self.versions.state().rollback_stack
        for version_id in reversed(trail):
            try:
                yield self._choice(version_id)
            except (RegistryError, OSError):
                continue
        yield self._shipped

    def _hold(self, choice: Choice, device: str) -> Answering:
        """Answers with a version, and keeps it and the one before it in memory."""
        loaded = self._load(choice.spec, device)
        with self._lock:
            held = self._held.get(device)
            self._held[device] = (choice, loaded)
            if held is None or held[0] != choice:
                if held is not None:
                    self._before[device] = held[0]
                kept = {choice.spec for choice, _ in self._held.values()}
                kept |= {choice.spec for choice in self._before.values()}
                if self._wanted is not None:
                    kept.add(self._wanted[1].spec)  # it may be damaged, which is remembered
                self._store.retain(self._preset, kept, self._asked - kept)
        return Answering(loaded, choice.version)

    def _load(self, spec: ModelSpec, device: str) -> LoadedModel:
        with self._lock:
            self._asked.add(spec)
        return self._store.get(spec, device)

    def _is_short(self, choice: Choice, device: str) -> bool:
        return time.monotonic() < self._short.get((choice.spec, device), 0.0)

    def _is_ready(self, choice: Choice, device: str) -> bool:
        """Whether a version can be asked for without making the request wait; loads it aside otherwise."""
        key = (choice.spec, device)
        if self._store.is_at_hand(*key):
            return True
        with self._lock:
            done = self._loading.get(key)
            if done is None:
                done = self._loading[key] = threading.Event()
                threading.Thread(target=self._load_aside, args=(key, done), name="load-version", daemon=True).start()
        done.wait(SWITCH_WAIT_S)
        return self._store.is_at_hand(*key)

    def _load_aside(self, key: tuple[ModelSpec, str], done: threading.Event) -> None:
        try:
            self._load(*key)
        except _REFUSED as error:
            self._remember_shortage(*key, error)
        finally:
            done.set()
            with self._lock:
                self._loading.pop(key, None)

    def _remember_shortage(self, spec: ModelSpec, device: str, error: Exception) -> None:
        """The store remembers files that are wrong; too little memory may be enough a minute later."""
        if not isinstance(error, CheckpointError):
            self._short[spec, device] = time.monotonic() + _RETRY_S

    def _told(self, problem: Exception | str) -> str:
        """Why, in words that may leave the server: no path of it."""
        if isinstance(problem, torch.OutOfMemoryError | MemoryError):
            return _OUT_OF_MEMORY
        if isinstance(problem, OSError):
            return problem.strerror or type(problem).__name__
        text = str(problem)
        if self.versions is not None:
            text = text.replace(f"{self.versions.folder}{os.sep}", "")
        return text


@functools.lru_cache(maxsize=100)
def _sha256(weights: Path, signature: FileSignature) -> str:
    return file_sha256(weights)
