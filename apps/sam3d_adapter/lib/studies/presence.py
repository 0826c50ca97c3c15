"""Whether a folder of images is there, and is the one that was known."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.studies.index import NAME

_BACK = (
    "If it lies on a network or another disk, mount it again; if it was moved, move it back. It is served again "
    "without a restart."
)
_READ_ONLY = (
    "The folder of images cannot be written to: clicks are answered, but no label or image can be saved. Give the "
    "server the right to write there, or mount the folder writable; no restart is needed."
)


class StudiesError(OSError):
    """The folder cannot be used as it is; a sentence for users, with what to do and without a path."""


class Presence:
    """Knows a folder again: an empty one where a disk was mounted must not be taken for the images.

    Args:
        folder: of images.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._identity: tuple[int, int] | None = None

    def remember(self) -> None:
        """From now on, the folder that is there is the right one."""
        try:
            found = self._folder.stat()
        except OSError:
            return
        self._identity = found.st_dev, found.st_ino

    def away(self, images: Path, known: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Why the images cannot be reached, with what to do; None where they can.

        Args:
            images: where they lie.
            known: the images that were there last; by id, as in an index.
        """
        try:
            found = self._folder.stat()
            is_open = os.access(images, os.R_OK | os.X_OK)
        except OSError:
            held = f"; it held {len(known)} images" if known else ""
            return f"The folder of images is not there{held}. {_BACK}"
        if not is_open:
            return f"The folder of images cannot be opened. Give the server the right to read it. {_BACK}"
        is_same = self._identity in (None, (found.st_dev, found.st_ino)) and (self._folder / NAME).exists()
        files = (images / f"{name}{case['image']['ext']}" for name, case in known.items())
        if not known or is_same or any(file.exists() for file in files):
            return None
        return f"The folder of images is there, but none of the {len(known)} images that it held. {_BACK}"

    def read_only(self) -> str | None:
        """That nothing can be saved, with what to do; None where it can."""
        return None if os.access(self._folder, os.W_OK) else _READ_ONLY
