"""sha256 of files, also while they are copied."""

import hashlib
import os
from pathlib import Path

from lib.files.atomic_write import write_fully

_CHUNK_BYTES = 2**20


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_with_sha256(source: Path, target: Path) -> tuple[str, int]:
    """Copies a file to the disk; returns sha256 and number of the bytes that were copied.

    Raises:
        FileExistsError: the target exists.
    """
    digest, length = hashlib.sha256(), 0
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                length += len(chunk)
                write_fully(fd, chunk)
        os.fsync(fd)
    finally:
        os.close(fd)
    return digest.hexdigest(), length
