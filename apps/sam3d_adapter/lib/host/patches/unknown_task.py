"""Patches: an unknown strategy is status 500; an unknown trainer, scoring or model a process that fails in silence.

MONAI Label 0.8.5 starts the whole app once more in a process of its own before it finds that there is nothing of that
name (``monailabel/endpoints/train.py:52``, ``scoring.py:52``, ``batch_infer.py:40``), and tells only its log; for a
strategy it raises its own exception (``monailabel/interfaces/app.py:453``). We know of no upstream issue.
"""

from collections.abc import Iterable

from fastapi import HTTPException

from lib.host.patches.version_guard import check_host_version
from lib.prompts.reading import short


def require_task(kind: str, name: str, known: Iterable[str]) -> None:
    """Passes if the server has a task of that name.

    Args:
        kind: of task, for messages.
        name: as in the address.
        known: names there are.

    Raises:
        HTTPException: 404 with those names.
    """
    check_host_version(__name__)
    names = sorted(known)
    if name not in names:
        choice = f"choose from: {', '.join(names)}" if names else f"this server has no {kind} at all"
        raise HTTPException(404, f"There is no {kind} {short(name)} here; {choice}.")
