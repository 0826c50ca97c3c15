"""Files that are whole or absent, on a disk that may be full and a machine that may stop at any moment."""

import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lib.files.atomic_write import replacing
from lib.registry.errors import DamagedFile, NewerFormat, RegistryError

logger = logging.getLogger(__name__)

FORMAT = 2
"""Of every JSON file and of the layout. 1 was one flat file a preset; see `lib.registry.upgrade`."""
_CHUNK_BYTES = 2**20
_TEMPORARY = (".new-", ".gone-")


def to_json(values: Mapping[str, Any]) -> bytes:
    """One line of JSON with the format in it.

    Raises:
        RegistryError: a value that JSON has no word for, such as NaN.
    """
    try:
        return json.dumps({"format": FORMAT, **values}, allow_nan=False, ensure_ascii=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise RegistryError(
            f"What is to be kept of a version is no plain JSON ({error}). Leave out or replace what is not finite."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """What `to_json` wrote.

    Raises:
        DamagedFile: it is something else.
        NewerFormat: a later release wrote it.
        OSError: it is not there, or cannot be read.
    """
    return parse_json(path.read_bytes(), path.name)


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """As `read_json`, of bytes.

    Args:
        content: the text.
        name: of the file, for messages.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{name} is no JSON: it is damaged. Restore it from a backup, or remove it.") from error
    found = values.get("format") if isinstance(values, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise NewerFormat(
            f"{name} has format {found}; this release knows formats up to {FORMAT}. A later release of the app wrote "
            "it: use that release, or another --conf learning_dir."
        )
    if found != FORMAT:
        raise DamagedFile(f"{name} has format {found!r}, expected {FORMAT}: it is no file of this registry.")
    return {key: value for key, value in values.items() if key != "format"}


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file at once; where that fails the old one stays."""
    with replacing(path) as partial:
        write_new(partial, content)


def write_new(path: Path, content: bytes) -> None:
    """Writes a file that nobody reads yet, down to the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, content: bytes) -> None:
    """All of it: a disk that is nearly full takes a part first."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def copy_hashed(source: Path, target: Path) -> tuple[str, int]:
    """Copies a file down to the disk; sha256 and bytes of what was copied."""
    digest, length = hashlib.sha256(), 0
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                length += len(chunk)
                write_all(fd, chunk)
        os.fsync(fd)
    finally:
        os.close(fd)
    return digest.hexdigest(), length


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_folder(folder: Path) -> None:
    """Takes a folder away: out of sight at once, then off the disk."""
    gone = folder.with_name(f".gone-{folder.name.lstrip('.')}")
    try:
        folder.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        logger.warning("A folder of the registry could not be removed yet: %s.", error.strerror)


def new_folder(parent: Path) -> Path:
    """A folder to fill and then rename; `sweep` takes it away if that never happens."""
    private_folder(parent)
    folder = parent / f".new-{os.getpid()}"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder


def private_folder(folder: Path) -> None:
    """Makes a folder that the server's user alone can look into; one that others can is closed to them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    close_to_others(folder)


def close_to_others(folder: Path) -> None:
    """Takes everybody else's rights to a folder; where that is not possible, the log says so."""
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            folder.chmod(mode & 0o700)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("A folder of the registry stays open to other users of the machine: %s.", error.strerror)


def sweep(folder: Path) -> None:
    """Removes what killed processes left of what is written with a registry's lock; only for the holder of that lock.

    Others write in the same folder without it: a training its progress and the files of its run.
    """
    left = [*folder.glob("served.json.*.partial"), *folder.glob("runs/*/holds.*.partial")]
    left += [path for path in folder.glob("versions/.*") if path.name.startswith(_TEMPORARY)]
    remove_left(left)


def remove_left(paths: Iterable[Path]) -> None:
    """Removes files and folders that nobody will finish."""
    for path in paths:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            logger.warning("A temporary file of the registry could not be removed: %s.", error.strerror)
