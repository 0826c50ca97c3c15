"""Patches: a file that comes with ``/infer`` is named by the client, and stays for ever where the request is refused.

MONAI Label 0.8.5 takes the end of the client's file name, whatever is in it, into the name of its temporary file, and
removes that file only after an answer of status 200 (``monailabel/endpoints/infer.py:139-158``). A mask sent as
``label`` is read with the whole image in the endpoint, where any mistake is status 500. We know of no upstream issue.
"""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from lib.host.patches.version_guard import check_host_version
from lib.prompts.reading import short

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".dcm")
"""Of files that can be read; a file without any is taken for DICOM."""

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
    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        path = Path(folder) / f"upload{_suffix(file.filename)}"
        with path.open("wb") as copy:
            shutil.copyfileobj(file.file, copy)
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


def _suffix(name: str | None) -> str:
    lowered = (name or SUFFIXES[0]).lower()
    suffix = next((known for known in SUFFIXES if lowered.endswith(known)), "")
    # Series are sent by some as 1.2.840.113619 without more: what follows the last dot is then a number.
    rest = Path(lowered).suffix[1:]
    if not suffix and rest and not rest.isdecimal():
        raise HTTPException(422, f"The file is called {short(name)}; one of {', '.join(SUFFIXES)} is expected.")
    return suffix
