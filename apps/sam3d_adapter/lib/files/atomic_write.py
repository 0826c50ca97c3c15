"""Atomic writes: a reader sees the old file or the new one, never half of one."""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write; it replaces ``path`` when it is complete and on the disk.

    If writing fails, the old file stays. A killed process leaves ``<name>.<process>-<random>.partial``.
    """
    # Threads share a process number, and processes in two containers on one volume may have equal ones.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file; if that fails, the old one stays."""
    with replacing(path) as partial:
        write_synced(partial, content)


def write_synced(path: Path, content: bytes) -> None:
    """Writes a file that nobody reads yet; it is on the disk when this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_fully(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_fully(fd: int, content: bytes) -> None:
    """Writes all bytes: on a nearly full disk the first call writes only some."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk.

    A rename is in force already, so a disk that cannot sync is only worth a warning.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        logger.warning("A power failure may undo what was just written: %s.", error.strerror)
