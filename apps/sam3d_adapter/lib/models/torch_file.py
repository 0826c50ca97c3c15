"""Read files of `torch.save` that a stranger may have written: tensors and plain values, nothing that runs."""

import contextlib
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lib.models.checkpoint_error import CheckpointError, require_file

_NAMED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_torch_file(path: Path, *, allow: Iterable[Any] = ()) -> object:
    """What a ``.pth`` file holds; its tensors are mapped from the file where its form permits, not copied.

    Args:
        path: The file.
        allow: Further classes and functions, as `torch.serialization.safe_globals` takes them, for this file alone.

    Raises:
        CheckpointError: Absent, damaged, no such file, or it names other objects, which are never executed.
    """
    require_file(path, "a PyTorch file (.pth, .pth.tar)")
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_sums(path)
    try:
        with torch.serialization.safe_globals(list(allow)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a malformed pickle can make the reader fail in any way
        named = _NAMED_GLOBAL.search(str(error))
        if named:
            raise CheckpointError(
                f"{path}: refused, because reading it would need the code '{named[1]}'. Expected tensors, numbers and "
                "plain containers; nothing in the file was executed. Get the file from its authors."
            ) from error
        lines = str(error).strip().splitlines()
        raise CheckpointError(
            f"{path}: not a readable PyTorch file ({type(error).__name__}: {lines[-1] if lines else 'it ends early'}). "
            "Expected what torch.save writes. Copy or download it again."
        ) from error


def _check_sums(path: Path) -> None:
    # torch stores a checksum of every tensor but never compares it: a flipped bit would become a weight.
    damaged: str | None = "the archive itself"
    unreadable = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)
    with contextlib.suppress(*unreadable), zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise CheckpointError(
            f"{path}: damaged: the checksum of {damaged} is wrong. Expected what torch.save wrote. "
            "Copy or download it again."
        )
