"""Patches: ``PUT /session`` unpacks any archive, and names files as the client does.

MONAI Label 0.8.5 hands an archive to ``shutil.unpack_archive`` (``monailabel/utils/sessions.py:132``), which bounds
neither size nor, for some formats, place; a name that is no name of a file ends in status 500, and of two files of one
name the first is lost without a word (``monailabel/endpoints/session.py:69``). We know of no upstream issue.
"""

import re
from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException

from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_MAX_NAME = 100


def patch_session_endpoint() -> None:
    """Wraps the endpoint's function; does nothing in a process that serves no HTTP."""
    wrap("monailabel.endpoints.session", "create_session", _create_session)


def _create_session(
    host: Any, background_tasks: Any, uncompress: bool = False, expiry: int = 0, files: Any = ()
) -> Any:
    check_host_version(__name__)
    if uncompress:
        raise HTTPException(422, "Archives are not unpacked. Send the files themselves.")
    for file, name in zip(files, safe_names([file.filename or "" for file in files]), strict=True):
        file.filename = name
    return host(background_tasks, False, expiry, files)


def safe_names(names: Sequence[str]) -> list[str]:
    """Names of files that can be made in one folder: ends are kept, for they tell the type.

    Args:
        names: as clients gave them.
    """
    found: list[str] = []
    for number, name in enumerate(names):
        safe = _UNSAFE.sub("_", name.replace("\\", "/").rpartition("/")[2])[-_MAX_NAME:].lstrip(".")
        # "meta.info" is where MONAI Label describes the session.
        usable = safe and safe not in found and safe != "meta.info"
        found.append(safe if usable else f"file_{number}{'.' if safe else ''}{safe}")
    return found
