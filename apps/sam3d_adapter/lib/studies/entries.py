"""Entries of the index of a folder of images: as they are made, and as they are found again without it."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.files.atomic_write import write_atomically
from lib.studies.label_changes import HISTORY

Entry = dict[str, Any]
"""``ext`` and ``info`` of an image or a label."""

_FILE = ".images.json"
_KEYS_OF_ALL = {"ts", "name"}


def new_entry(ending: str, info: Mapping[str, Any], name: str) -> Entry:
    """The entry of what is saved now.

    Args:
        ending: of the file.
        info: whatever is to be kept of it.
        name: of the file.
    """
    return {"ext": ending, "info": storable(info) | {"ts": int(time.time()), "name": name}}


def found_entry(path: Path, ending: str) -> Entry:
    """The entry of a file of which nothing is known."""
    entry = new_entry(ending, {}, path.name)
    with contextlib.suppress(OSError):
        entry["info"]["ts"] = int(path.stat().st_mtime)
    return entry


def is_described(entry: Entry) -> bool:
    """Whether more is known than what every entry has."""
    return bool(entry["info"].keys() - _KEYS_OF_ALL)


def storable(info: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from the disk; numbers that are not finite, which JSON does not have, as texts."""
    return json.loads(json.dumps(info, default=str), parse_constant=str)


class ImageNotes:
    """What is known of images, such as their patients, kept a second time beside the index.

    A note holds for a file of that size and time alone: under the name of an image that went, another may come.

    Args:
        folder: of images.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / HISTORY / _FILE

    def read(self) -> dict[str, Any]:
        """All notes by image id; none where the file is missing or damaged."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            kept = json.loads(self._path.read_bytes())
            json.dumps(kept, allow_nan=False, ensure_ascii=False).encode()
            if isinstance(kept, dict):
                return kept
        return {}

    def keep(self, files: Mapping[str, Path], entries: Mapping[str, Entry]) -> None:
        """Keeps entries of images.

        Raises:
            OSError: nothing was changed.
        """
        self._write(
            self.read() | {name: {"file": _state(files[name]), "info": entries[name]["info"]} for name in entries}
        )

    def forget(self, image: str) -> None:
        """Removes the note of an image."""
        if image in (kept := self.read()):
            self._write({name: note for name, note in kept.items() if name != image})

    def _write(self, kept: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(exist_ok=True)
        write_atomically(self._path, json.dumps(kept, default=str).encode())


def entry_of_note(note: Any, path: Path, ending: str) -> Entry:
    """The entry of an image that the index lacks.

    Args:
        note: of its id, from `ImageNotes.read`; None for none.
        path: the image's file.
        ending: of it.
    """
    with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
        if note["file"] == _state(path):
            return {"ext": ending, "info": dict(note["info"])}
    return found_entry(path, ending)


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, int(found.st_mtime)]
