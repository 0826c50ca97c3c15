"""Patches: uploads and results lie about in the system's temporary folder, readable for all, and stay after an error.

MONAI Label 0.8.5 names its files there with ``tempfile.NamedTemporaryFile(...).name`` and opens them anew, with the
permissions of any file. It removes them after the answer, but not if there is none: FastAPI drops the tasks that were
to do it when an error is raised (``monailabel/endpoints/infer.py:142``, ``session.py:72``, ``datastore.py:70``). DICOM
SEG files and archives of the data store are never removed (``monailabel/datastore/utils/convert.py``,
``local.py:392``). We know of no upstream issue.

Here the server has a temporary folder of its own, for its user alone; what an endpoint names in it is removed after the
answer, or at once where there is none; what was left all the same goes after an hour.
"""

import atexit
import contextlib
import contextvars
import functools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import schedule
from fastapi import Response
from fastapi.background import BackgroundTasks
from monailabel.datastore import local
from monailabel.datastore.utils import convert
from monailabel.endpoints import datastore, infer, session
from monailabel.transform import writer
from monailabel.utils.others.generic import remove_file

from lib.host.patches.version_guard import check_host_version

ENDPOINTS = (
    (infer, "run_inference"),
    (session, "create_session"),
    (datastore, "add_image"),
    (datastore, "save_label"),
    (datastore, "download_dataset"),
)
"""Functions of MONAI Label that name temporary files."""
NAMING = (infer, session, datastore, local, convert, writer)
"""Modules of MONAI Label in which they do."""

_PREFIX = "sam3d_adapter-"
_FOLDER = re.compile(_PREFIX + r"(\d+)-\w+")
_MAX_AGE_S = 3600.0
_SWEEP_MINUTES = 5

_named: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("sam3d_adapter_temporary", default=None)


def use_private_temp_folder() -> Path:
    """Gives the process its own temporary folder and cleans up behind the endpoints.

    Returns:
        The folder; it is removed when the process ends.
    """
    check_host_version(__name__)
    folder = Path(tempfile.gettempdir())
    if not _FOLDER.fullmatch(folder.name):
        _remove_of_the_dead(folder)
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        tempfile.tempdir = str(folder)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for module in NAMING:
            module.tempfile = NotingTempfile()
        for module, name in ENDPOINTS:
            setattr(module, name, clean_up_after(getattr(module, name)))
        # MONAI Label runs what is due every 30 s.
        schedule.every(_SWEEP_MINUTES).minutes.do(sweep, folder)
    return folder


class NotingTempfile:
    """The module ``tempfile``, for a module that names files by it for an endpoint: they are noted."""

    def __getattr__(self, name: str) -> Any:
        return getattr(tempfile, name)

    @staticmethod
    def NamedTemporaryFile(*args: Any, **kwargs: Any) -> Any:
        """A file as of ``tempfile``."""
        file = tempfile.NamedTemporaryFile(*args, **kwargs)  # noqa: SIM115 - the host closes it
        if (named := _named.get()) is not None:
            named.append(file.name)
        return file


def clean_up_after(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """An endpoint's function that leaves no temporary file behind, whether it returns or raises.

    Args:
        endpoint: takes FastAPI's ``BackgroundTasks`` as its first argument, or returns a response without tasks.
    """

    @functools.wraps(endpoint)
    def cleaning(*args: Any, **kwargs: Any) -> Any:
        named: list[str] = []
        token = _named.set(named)
        try:
            answer = endpoint(*args, **kwargs)
        except BaseException:
            for path in named:
                _remove(path)
            raise
        finally:
            _named.reset(token)
        tasks = args[0] if args and isinstance(args[0], BackgroundTasks) else BackgroundTasks()
        for path in named:
            tasks.add_task(_remove, path)
        if tasks not in args and isinstance(answer, Response):
            answer.background = tasks
        return answer

    return cleaning


def sweep(folder: Path, max_age_s: float = _MAX_AGE_S) -> None:
    """Removes what is older than any request, and keeps the folder from looking forsaken to cleaners of /tmp."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        os.utime(folder)
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > max_age_s:
                _remove(str(path))


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        remove_file(path)


def _remove_of_the_dead(parent: Path) -> None:
    """Folders of servers that were killed."""
    for path in parent.glob(f"{_PREFIX}*"):
        found = _FOLDER.fullmatch(path.name)
        if found and path.stat().st_uid == os.geteuid() and not Path(f"/proc/{found[1]}").exists():
            shutil.rmtree(path, ignore_errors=True)
