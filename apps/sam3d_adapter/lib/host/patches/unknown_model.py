"""Patches: an unknown model name is an opaque 500.

MONAI Label 0.8.5 raises its own exception for it (``monailabel/interfaces/app.py:275``), whose text never reaches a
client. We know of no upstream issue.
"""

from collections.abc import Iterable

from fastapi import HTTPException

from lib.host.patches.version_guard import check_host_version
from lib.prompts.reading import short


def require_model(name: object, models: Iterable[str]) -> None:
    """Passes if the server has a model of that name.

    Raises:
        HTTPException: 404 with the names there are.
    """
    check_host_version(__name__)
    known = sorted(models)
    if name not in known:
        raise HTTPException(404, f"There is no model {short(name)} here; choose from: {', '.join(known)}.")
