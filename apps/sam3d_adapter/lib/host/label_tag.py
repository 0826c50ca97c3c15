"""Mends: the tag under which a mask is saved is joined to a path of the data store without a check.

In MONAI Label 0.8.5 ``params`` of an inference may hold ``save_label`` and ``label_tag``
(``monailabel/interfaces/app.py:310``); a tag such as ``../../x`` writes outside the data store. We know of no upstream
issue.
"""

import re

from fastapi import HTTPException

from lib.host.version_guard import check_host_version

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


def require_safe_tag(tag: object) -> None:
    """Passes if ``tag`` is absent or a plain name.

    Raises:
        HTTPException: 422.
    """
    check_host_version("label_tag")
    if tag is not None and not (isinstance(tag, str) and _TAG.fullmatch(tag)):
        raise HTTPException(422, "label_tag must be a plain name of letters, digits, '.', '_' and '-'.")
