"""A record's image among the files of a folder."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.volumes.read import ImageError, read_volume

logger = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Of the files that are opened."""


def find_image(folder: Path, content_hash: str, *, is_name: Callable[[str], bool] = lambda name: False) -> Path | None:
    """The first file with a content; None where there is none.

    Args:
        folder: searched with its subfolders.
        content_hash: ``Volume.content_key``.
        is_name: whether an image of this id is worth looking at first; the others are read after it, which takes long.
    """
    files = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(SUFFIXES) and path.is_file())
    for path in sorted(files, key=lambda path: not any(is_name(name) for name in _ids(path))):
        try:
            if read_volume(path).content_key == content_hash:
                return path
        except (ImageError, OSError):
            logger.debug("%s was passed over.", path, exc_info=True)
    return None


def _ids(path: Path) -> Iterator[str]:
    """The ids MONAI Label may give a file: its name without the extension, or without the last part of it."""
    yield from (path.name[: -len(suffix)] for suffix in SUFFIXES if path.name.lower().endswith(suffix))
