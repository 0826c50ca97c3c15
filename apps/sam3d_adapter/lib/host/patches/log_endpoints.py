"""Patches: ``/logs`` is status 500 for a number of lines beyond a computer word, and ``/logs/gpu`` without a GPU.

MONAI Label 0.8.5 takes any number (``monailabel/endpoints/logs.py:76``), starts ``nvidia-smi`` without asking whether
there is one, and waits for it for ever, which stops all other requests (``:104``). We know of no upstream issue.
"""

import os
import subprocess
from types import SimpleNamespace
from typing import Any

from fastapi import HTTPException

from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import replace, wrap

_ENDPOINT = "monailabel.endpoints.logs"
_MAX_LINES = 100_000
_TIMEOUT_S = 10


def patch_log_endpoints() -> None:
    """Wraps both endpoints; does nothing in a process that serves no HTTP."""
    wrap(_ENDPOINT, "get_logs", _get_logs)
    replace(_ENDPOINT, "subprocess", lambda _: SimpleNamespace(run=_run, PIPE=subprocess.PIPE))


def _get_logs(host: Any, logger_file: str, lines: int | None, *how: Any) -> Any:
    check_host_version(__name__)
    # The host's own answer names the folder of the app.
    if not os.path.isfile(logger_file):
        raise HTTPException(404, "There is no log file here. Start the server with its default settings to have one.")
    # 0 and less mean the whole file, as in the host.
    return host(logger_file, min(lines or 0, _MAX_LINES), *how)


def _run(command: list[str], **keywords: Any) -> Any:
    check_host_version(__name__)
    try:
        return subprocess.run(command, timeout=_TIMEOUT_S, **keywords)
    except FileNotFoundError as error:
        raise HTTPException(404, "This server has no nvidia-smi, so nothing is known of a GPU.") from error
    except subprocess.TimeoutExpired as error:
        raise HTTPException(503, f"nvidia-smi did not answer within {_TIMEOUT_S} s. Try again later.") from error
