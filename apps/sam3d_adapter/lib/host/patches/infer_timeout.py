"""Patches: a client may set how long the server waits for its own answer, to a time or to nonsense.

MONAI Label 0.8.5 takes ``timeout`` of ``params`` where it infers in a pool of threads
(``monailabel/interfaces/app.py:302``); the request then ends in status 500 while the work goes on. We know of no
upstream issue.
"""

from collections.abc import Mapping
from typing import Any

from lib.host.patches.version_guard import check_host_version


def without_timeout(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request with the server's own limit."""
    check_host_version(__name__)
    return {key: value for key, value in request.items() if key != "timeout"}
