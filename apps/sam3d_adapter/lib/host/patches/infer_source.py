"""Patches: no image at all ends in status 500, and a session that is over is answered with whatever else was named.

MONAI Label 0.8.5 raises status 500 for the first (``monailabel/endpoints/infer.py:131``); for the second it goes on
with ``image`` of the address, so that the mask belongs to another image than the one the user sees (``:168``). The id
of a session is joined to a path unchecked, and the folder it leads to may be deleted
(``monailabel/utils/sessions.py:101``). We know of no upstream issue.
"""

import re
from typing import Any

from fastapi import HTTPException

from lib.host.patches.version_guard import check_host_version

_SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_IMAGE = "No image: give the id of an image of this server (image=...), a file, or a session that is alive."


def require_source(image: str, session_id: str, has_file: bool, sessions: Any) -> None:
    """Passes if there is something to segment.

    Args:
        image: of the address; may be empty.
        session_id: of the address; may be empty.
        has_file: whether a file came with the request.
        sessions: MONAI Label's ``Sessions``, or None where they are switched off.

    Raises:
        HTTPException: 422 where nothing is named, 404 where the session is over.
    """
    check_host_version(__name__)
    if not (image or session_id or has_file):
        raise HTTPException(422, _NO_IMAGE)
    if session_id and not is_alive(session_id, sessions):
        raise HTTPException(404, "There is no such session here, or it is over. Send the image again.")


def is_alive(session_id: str, sessions: Any) -> bool:
    """Whether a session of that id exists; asks for no other than those the server gives out."""
    if sessions is None or not _SESSION_ID.fullmatch(session_id):
        return False
    try:
        return sessions.get_session(session_id, update_ts=False) is not None
    # A description that was cut off, as on a full disk.
    except ValueError:
        return False
