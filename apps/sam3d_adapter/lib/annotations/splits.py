"""The split into training and validation patients: decided once for each patient, and kept."""

import contextlib
import functools
import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.annotations.patients import Patient
from lib.files.atomic_write import replacing
from lib.files.lock import file_lock, locked

logger = logging.getLogger(__name__)

TRAIN, VALIDATION = "train", "validation"
ENOUGH = 8
"""Up to so many validation patients, two of five new patients go to validation; then one of five."""
# Places among each five arriving patients that go to validation, counted from 0.
_EARLY, _LATE = (1, 3), (2,)
_BLOCK = 5
_FORMAT = 1
_LOCK_TIMEOUT_S = 60.0
_PSEUDONYM = 32
"""Hexadecimal digits: 128 bits, so that no two names share them by chance."""


class SplitsError(ValueError):
    """The split cannot be trusted; training must not draw a new one in its place."""


@dataclass
class _State:
    """Content of the file.

    Attributes:
        key_check: shows whether the key is the one that the names were hashed with.
        drawn: number of patients assigned in turn, without those that took the side of another one.
        patients: key of a patient -> side.
        images: image id -> key of the patient that it was last said to show.
        moves: patients that moved from training to validation, because they are the same as somebody there.
    """

    key_check: str
    drawn: int = 0
    patients: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    moves: list[dict[str, Any]] = field(default_factory=list)


class Splits:
    """``splits.json`` of a folder, shared by all presets and all processes that train.

    A patient never changes side, with one exception: if two patients turn out to be one and either is in validation,
    both are from then on. The file records it.

    DICOM PatientIDs and names from tables are kept as HMAC-SHA256; the key is in ``splits.key`` beside the file. The
    file is written twice; a damaged one is never replaced by a new draw.

    Args:
        folder: made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file, self.backup, self._key_file = (
            folder / name for name in ("splits.json", "splits.backup.json", "splits.key")
        )

    def assign(self, patients: Mapping[str, Patient]) -> dict[str, str]:
        """The side of each image; new patients are assigned, on the disk before this returns.

        Args:
            patients: image id -> patient.

        Raises:
            SplitsError: the file or its key is damaged or gone.
            OSError: it cannot be written.
        """
        with self._locked():
            key = self._read_key()
            state = self._read(key)
            before = json.dumps(vars(state), sort_keys=True)
            said = {image: _person(patient, key) for image, patient in sorted(patients.items())}
            _assign(state, said, key)
            if json.dumps(vars(state), sort_keys=True) != before or not self.backup.exists():
                self._write(state)
        return {image: state.patients[person] for image, person in said.items()}

    def counts(self) -> dict[str, int]:
        """Number of patients on each side.

        Raises:
            SplitsError: as ``assign``; so does OSError.
        """
        with self._locked():
            sides = list(self._read(self._read_key()).patients.values())
        return {side: sides.count(side) for side in (TRAIN, VALIDATION)}

    def moves(self) -> list[dict[str, Any]]:
        """Patients that were trained on before they moved to validation: when, and their images.

        Raises:
            SplitsError: as ``assign``; so does OSError.
        """
        with self._locked():
            return self._read(self._read_key()).moves

    def pseudonyms(self) -> Callable[[str], str]:
        """A function name -> keyed hash, for files that mention a patient or an image.

        Equal names give equal hashes as long as the key exists; without the key, names cannot be guessed.

        Raises:
            SplitsError: as ``assign``; so does OSError.
        """
        with self._locked():
            key = self._read_key()
        return functools.partial(_pseudonym, key)

    def _read_key(self) -> bytes:
        if not self._key_file.exists():
            if self.file.exists() or self.backup.exists():
                raise SplitsError(
                    f"{self._key_file} is gone, without which no patient of {self.file.name} can be recognised. "
                    "Put it back from a copy of the folder. Nothing is trained until then."
                )
            self._replace(self._key_file, secrets.token_hex(32))
        return self._key_file.read_bytes()

    def _read(self, key: bytes) -> _State:
        check = _keyed(key, "the key of these splits")
        if not self.file.exists():
            if self.backup.exists():
                raise SplitsError(f"{self.file} is gone. {self._remedy()}")
            return _State(key_check=check)
        try:
            state = _parsed(json.loads(self.file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise SplitsError(f"{self.file} is damaged ({error}). {self._remedy()}") from error
        if state.key_check != check:
            raise SplitsError(
                f"{self._key_file} is not the key that the patients of {self.file.name} were hashed with. "
                "Put the two files back from one copy of the folder. Nothing is trained until then."
            )
        return state

    def _remedy(self) -> str:
        return (
            f"{self.backup.name} beside it holds the same: copy it to {self.file.name} if it is whole, or take the "
            "file from a copy of the folder. Nothing is trained until then, because a new split would validate on "
            "patients that were trained on."
        )

    def _write(self, state: _State) -> None:
        text = json.dumps({"format": _FORMAT, **vars(state)}, indent=1, sort_keys=True)
        # One after the other, so that one of the two is always intact.
        for path in (self.file, self.backup):
            self._replace(path, text)

    def _replace(self, path: Path, text: str) -> None:
        with replacing(path) as partial:
            partial.touch(mode=0o600)
            partial.write_text(text, encoding="utf-8")

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "splits.lock"
        return locked(file_lock(path, _LOCK_TIMEOUT_S), SplitsError(f"Another process keeps {path} locked."))


def _assign(state: _State, said: Mapping[str, str], key: bytes) -> None:
    """Assigns a side to every patient; those that turn out to be the same get the same side."""
    for group in _same_persons(state, said):
        sides = {state.patients[person] for person in group if person in state.patients}
        if not sides:
            continue
        side = VALIDATION if VALIDATION in sides else TRAIN
        moved = sorted(person for person in group if state.patients.get(person, side) != side)
        if moved:
            _record_move(state, moved, said)
        state.patients.update(dict.fromkeys(sorted(group), side))
    # Sorted by keyed hash, so that neither names nor the order of files matter.
    for person in sorted(set(said.values()) - state.patients.keys(), key=lambda person: _keyed(key, person)):
        validated = sum(side == VALIDATION for side in state.patients.values())
        turns = _EARLY if validated < ENOUGH else _LATE
        state.patients[person] = VALIDATION if state.drawn % _BLOCK in turns else TRAIN
        state.drawn += 1
    state.images.update(said)


def _same_persons(state: _State, said: Mapping[str, str]) -> list[set[str]]:
    """Groups of patients that are the same: an image that showed one of them is now said to show another."""
    group_of: dict[str, set[str]] = {}
    for image, person in said.items():
        names = {person, state.images.get(image, person)}
        merged = set().union(*(group_of.get(name, {name}) for name in names))
        group_of.update(dict.fromkeys(merged, merged))
    return list({id(group): group for group in group_of.values()}.values())


def _record_move(state: _State, moved: list[str], said: Mapping[str, str]) -> None:
    images = sorted({image for known in (said, state.images) for image, person in known.items() if person in moved})
    now = datetime.now(UTC).isoformat(timespec="seconds")
    state.moves.append({"time": now, "persons": moved, "images": images, "to": VALIDATION})
    logger.warning(
        "%d patients turned out to be one with somebody in validation and are not trained on any more, though earlier "
        "versions were.",
        len(moved),
    )


def _person(patient: Patient, key: bytes) -> str:
    return f"id:{patient.name}" if patient.is_visible else f"hmac:{_keyed(key, patient.name)}"


def _keyed(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _pseudonym(key: bytes, name: str) -> str:
    return _keyed(key, name)[:_PSEUDONYM]


def _parsed(content: Any) -> _State:
    kinds = {"key_check": str, "drawn": int, "patients": dict, "images": dict, "moves": list}
    # No key may be missing: an empty value would be a new draw.
    if not isinstance(content, dict) or content.keys() != {"format", *kinds} or content["format"] != _FORMAT:
        raise ValueError(f"it is not of format {_FORMAT}")
    wrong = [name for name, kind in kinds.items() if not isinstance(content[name], kind)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is of the wrong kind")
    state = _State(**{name: content[name] for name in kinds})
    if not all(side in (TRAIN, VALIDATION) for side in state.patients.values()):
        raise ValueError(f"a patient is neither in {TRAIN} nor in {VALIDATION}")
    if not all(isinstance(person, str) and person in state.patients for person in state.images.values()):
        raise ValueError("an image belongs to a patient that is not listed")
    return state
