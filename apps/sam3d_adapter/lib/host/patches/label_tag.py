"""Patches: the tag under which a mask is saved is joined to a path of the data store without a check.

In MONAI Label 0.8.5 ``params`` of an inference may hold ``save_label`` and ``label_tag``
(``monailabel/interfaces/app.py:310``), and ``PUT /datastore/label`` takes one as ``tag``
(``monailabel/datastore/local.py:495``); a tag such as ``../../x`` writes outside the data store. We know of no upstream
issue.
"""

import re

from fastapi import HTTPException

from lib.host.patches.version_guard import check_host_version
from lib.prompts.reading import short

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


def require_safe_tag(tag: object, name: str = "label_tag") -> None:
    """Passes if ``tag`` is absent or a plain name.

    Args:
        tag: as sent.
        name: of what it came in, for messages.

    Raises:
        HTTPException: 422.
    """
    check_host_version(__name__)
    if tag is not None and not (isinstance(tag, str) and _TAG.fullmatch(tag)):
        raise HTTPException(
            422, f"{name} is {short(tag)}; it must be a plain name of letters, digits, '.', '_' and '-', at most 64 of "
            "them, the first no '.'. Choose another."
        )  # fmt: skip
