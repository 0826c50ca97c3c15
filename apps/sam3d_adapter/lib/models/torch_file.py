"""Read files of `torch.save` that a stranger may have written: tensors and plain values, nothing that runs."""

import contextlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lib.models.checkpoint_error import CheckpointError, require_file

_ZIP_BEGINS = b"PK\x03\x04"
_NAMED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_UNPICKLER_SAYS = re.compile(r"WeightsUnpickler error: *(\S[^\n]*)")


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
        _check_archive(path)
    elif _begin(path) == _ZIP_BEGINS:
        raise _unreadable(path, "its end is missing")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allow)):
            warnings.simplefilter("ignore")  # of unusual pickles; what matters is whether it can be read
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a malformed pickle can make the reader fail in any way
        named = _NAMED_GLOBAL.search(str(error))
        if named:
            raise CheckpointError(
                f"{path}: refused, because reading it would need the code '{named[1]}'. Expected tensors, numbers and "
                "plain containers; nothing in the file was executed. Get the file from its authors."
            ) from error
        raise _unreadable(path, _reason(error)) from error


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_ZIP_BEGINS))


def _reason(error: Exception) -> str:
    text = str(error).strip()
    told = _UNPICKLER_SAYS.search(text)
    if told:
        return told[1].rstrip(". ")
    # Otherwise torch's text is advice on how to read the file in spite of all, which nobody should follow here.
    if isinstance(error, pickle.UnpicklingError):
        return "no pickled tensors"
    return text.splitlines()[-1].partition(". ")[0].rstrip(".") if text else "it ends early"


def _check_archive(path: Path) -> None:
    """Raise CheckpointError unless a zip is what torch.save writes, to its end and to the last bit."""
    problem: str | None = "the archive is damaged"
    unreadable = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)
    with contextlib.suppress(*unreadable), zipfile.ZipFile(path) as archive:
        if not any(name.endswith("/data.pkl") for name in archive.namelist()):
            problem = "a zip archive of something else"
        else:
            # torch stores a checksum of every tensor but never compares it: a flipped bit would become a weight.
            damaged = archive.testzip()
            problem = f"the checksum of {damaged} is wrong" if damaged else None
    if problem:
        raise _unreadable(path, problem)


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: not a readable PyTorch file ({reason}). Expected what torch.save writes. Copy or download it again."
    )
