"""A file that came with a request, on the server's disk until the request is answered.

Patches: MONAI Label 0.8.5 takes the end of the client's file name, whatever is in it, into the name of its temporary
file for ``/infer``, and removes that file only after an answer of status 200
(``monailabel/endpoints/infer.py:139-158``). A mask sent as ``label`` is read with the whole image in the endpoint,
where any mistake is status 500. We know of no upstream issue.
"""

import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from lib.host.patches.version_guard import check_host_version
from lib.prompts.reading import short
from lib.volumes.memory import MemoryShortage
from lib.volumes.volume import ImageError

INFER_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".dcm")
"""Of files that ``/infer`` can read; a file without any is taken for DICOM."""

_received: set[str] = set()
_lock = threading.Lock()


@contextmanager
def received(file: Any) -> Iterator[str]:
    """The path of an uploaded file for the time of the ``with`` block, or an empty text where there is none.

    Args:
        file: FastAPI's ``UploadFile``, or None.

    Raises:
        HTTPException: 422 for a file of a type that cannot be read.
        OSError: it cannot be stored.
    """
    check_host_version(__name__)
    if not file:
        yield ""
        return
    with _copied(file, f"upload{_infer_suffix(file.filename)}") as path:
        with _lock:
            _received.add(str(path))
        try:
            yield str(path)
        finally:
            with _lock:
                _received.discard(str(path))


def is_received(path: str) -> bool:
    """Whether a path is that of a file of a request that is being answered."""
    with _lock:
        return path in _received


def split_name(name: str | None, suffixes: Sequence[str]) -> tuple[str, str]:
    """Stem and suffix of the name that a client gave a file; the suffix in lower case.

    Args:
        name: with or without folders, of any system.
        suffixes: those expected, the longer of two with one end first. The first is taken where there is no name.

    Raises:
        HTTPException: 422 for others.
    """
    last = (name or suffixes[0]).replace("\\", "/").rpartition("/")[2]
    for suffix in suffixes:
        if last.lower().endswith(suffix):
            return last[: -len(suffix)], suffix
    raise HTTPException(422, f"The file is called {short(name)}; its name must end in {', '.join(suffixes)}.")


@contextmanager
def stored_copy(file: Any, name: str) -> Iterator[Path]:
    """The path of a copy of an uploaded file; what is wrong with its content is answered with 422 or 503.

    Args:
        file: FastAPI's ``UploadFile``; it can be read from its beginning afterwards.
        name: of the copy, with the suffix that says how to read it.

    Raises:
        HTTPException: 422 or 503.
        OSError: it cannot be stored.
    """
    file.file.seek(0)
    with _copied(file, name) as path:
        file.file.seek(0)
        if not path.stat().st_size:
            raise HTTPException(422, "The file is empty; a volume is expected. Save it once more, then send it again.")
        try:
            yield path
        except ImageError as error:
            raise HTTPException(422, str(error)) from error
        except (MemoryShortage, MemoryError) as error:
            raise HTTPException(503, str(error) or "The memory of the server is short. Try again later.") from error


@contextmanager
def _copied(file: Any, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        path = Path(folder) / name
        with path.open("wb") as copy:
            shutil.copyfileobj(file.file, copy)
        yield path


def _infer_suffix(name: str | None) -> str:
    lowered = (name or INFER_SUFFIXES[0]).lower()
    suffix = next((known for known in INFER_SUFFIXES if lowered.endswith(known)), "")
    # Series are sent by some as 1.2.840.113619 without more: what follows the last dot is then a number.
    rest = Path(lowered).suffix[1:]
    if not suffix and rest and not rest.isdecimal():
        raise HTTPException(422, f"The file is called {short(name)}; one of {', '.join(INFER_SUFFIXES)} is expected.")
    return suffix
