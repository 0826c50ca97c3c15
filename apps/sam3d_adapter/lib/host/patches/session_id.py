"""Patches: the id of a session is joined to a path unchecked, and the folder it leads to may be deleted.

``GET`` and ``DELETE /session/<id>`` of MONAI Label 0.8.5 take ``..`` for an id (``monailabel/utils/sessions.py:87``):
what describes a session there is read, and where its image is gone the folder is removed with all that is in it
(``:101``). The image of a session of several files is a folder, which cannot be sent: status 500
(``monailabel/endpoints/session.py:48``). We know of no upstream issue.
"""

import os
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance

from lib.host.patches.infer_source import is_alive
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap

_ENDPOINT = "monailabel.endpoints.session"


def patch_session_ids() -> None:
    """Wraps the endpoints' functions; does nothing in a process that serves no HTTP."""
    wrap(_ENDPOINT, "get_session", _get_session)
    wrap(_ENDPOINT, "remove_session", _remove_session)


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
