"""Folders that only the server's user can open, filled before they get their name, hidden before they are deleted."""

import logging
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

_TEMPORARY = (".new-", ".gone-")


def new_folder(parent: Path) -> Path:
    """A folder to fill and then rename; a killed process leaves it among `temporary_folders`."""
    private_folder(parent)
    folder = parent / f".new-{os.getpid()}"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder


def remove_folder(folder: Path) -> None:
    """Hides a folder at once, then deletes it."""
    gone = folder.with_name(f".gone-{folder.name.lstrip('.')}")
    try:
        folder.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        logger.warning("A folder could not be removed yet: %s.", error.strerror)


def temporary_folders(parent: Path) -> list[Path]:
    """What `new_folder` and `remove_folder` left in a folder."""
    return [path for path in parent.glob(".*") if path.name.startswith(_TEMPORARY)]


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Removes files and folders that nobody will finish."""
    for path in paths:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            logger.warning("A temporary file could not be removed: %s.", error.strerror)


def private_folder(folder: Path) -> None:
    """Makes a folder that only the server's user can open; closes an existing one to others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    close_to_others(folder)


def close_to_others(folder: Path) -> None:
    """Removes all rights of other users on a folder; logs a warning where that is not possible."""
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            folder.chmod(mode & 0o700)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("A folder stays open to other users of the machine: %s.", error.strerror)
