"""Patches: an unknown model or strategy is status 500; an unknown trainer or scoring a process that fails in silence.

For a model or a strategy MONAI Label 0.8.5 raises its own exception (``monailabel/interfaces/app.py:275``, ``:453``),
whose text never reaches a client. For a trainer, a scoring or a batch it starts the whole app once more in a process of
its own before it finds that there is nothing of that name (``monailabel/endpoints/train.py:52``, ``scoring.py:52``,
``batch_infer.py:40``), and tells only its log. We know of no upstream issue.
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
        choice = f"choose from: {', '.join(known)}" if known else "this server was started with --review-only"
        raise HTTPException(404, f"There is no model {short(name)} here; {choice}.")


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
