"""Patches: session ids and file names of clients become paths unchecked, and archives are unpacked.

``GET`` and ``DELETE /session/<id>`` of MONAI Label 0.8.5 take ``..`` for an id (``monailabel/utils/sessions.py:87``):
what describes a session there is read, and where its image is gone the folder is removed with all that is in it
(``:101``). The image of a session of several files is a folder, which cannot be sent: status 500
(``monailabel/endpoints/session.py:48``).

``PUT /session`` hands an archive to ``shutil.unpack_archive`` (``monailabel/utils/sessions.py:132``), which bounds
neither size nor, for some formats, place. A name that no file can have ends in status 500, and of two files of one name
the first is lost (``monailabel/endpoints/session.py:69``). We know of no upstream issue.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance

from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap

_ENDPOINT = "monailabel.endpoints.session"
_SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_MAX_NAME = 100


def patch_session_endpoints() -> None:
    """Wraps the endpoints' functions; does nothing in a process that serves no HTTP."""
    wrap(_ENDPOINT, "create_session", _create_session)
    wrap(_ENDPOINT, "get_session", _get_session)
    wrap(_ENDPOINT, "remove_session", _remove_session)


def is_alive(session_id: str, sessions: Any) -> bool:
    """Whether a session of that id exists; asks for no other than those the server gives out."""
    if sessions is None or not _SESSION_ID.fullmatch(session_id):
        return False
    try:
        return sessions.get_session(session_id, update_ts=False) is not None
    # A description that was cut off, as on a full disk.
    except ValueError:
        return False


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


def _create_session(
    host: Any, background_tasks: Any, uncompress: bool = False, expiry: int = 0, files: Any = ()
) -> Any:
    check_host_version(__name__)
    if uncompress:
        raise HTTPException(422, "Archives are not unpacked. Send the files themselves.")
    for file, name in zip(files, safe_names([file.filename or "" for file in files]), strict=True):
        file.filename = name
    return host(background_tasks, False, expiry, files)


def _get_session(host: Any, session_id: str, update_ts: bool = False, image: bool = False) -> Any:
    sessions = _require_alive(session_id)
    if image and sessions is not None and os.path.isdir(sessions.get_session(session_id, update_ts=False).image):
        raise HTTPException(422, "The session holds several files, which are not sent as one. Keep your own copies.")
    return host(session_id, update_ts, image)


def _remove_session(host: Any, session_id: str) -> Any:
    _require_alive(session_id)
    return host(session_id)


def _require_alive(session_id: str) -> Any:
    """The sessions; None where they are switched off, which the host says in its own words."""
    check_host_version(__name__)
    sessions = app_instance().sessions()
    if sessions is not None and not is_alive(session_id, sessions):
        raise HTTPException(404, "There is no such session here, or it is over. Send the image again.")
    return sessions
