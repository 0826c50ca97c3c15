"""Files that are never half there."""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write beside ``path``, moved over it once it is whole and on the disk.

    A reader sees the old file or the new one, never half of one; where writing fails, the old one stays alone. What a
    killed process leaves is named ``<name>.<process>-<random>.partial``.
    """
    # Threads share the number of their process, and processes of two containers on one volume may have the same.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk.

    What was renamed is in force already, so a disk that cannot say so is no reason to report a failure.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        logger.warning("What was just written may be undone by a power failure: %s.", error.strerror)
