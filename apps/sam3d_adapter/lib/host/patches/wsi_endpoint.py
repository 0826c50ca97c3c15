"""Patches: inference on whole slides is offered by every server, and ends in status 500 or in another error's words.

MONAI Label 0.8.5 has ``/infer/wsi`` and ``/infer/wsi_v2`` for pathology whatever the app is
(``monailabel/endpoints/wsi_infer.py:72``, ``:146``). We know of no upstream issue.
"""

import json
from types import SimpleNamespace
from typing import Any, NoReturn

from fastapi import HTTPException

from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import replace, wrap

_ENDPOINT = "monailabel.endpoints.wsi_infer"


def patch_wsi_endpoint() -> None:
    """Makes both endpoints refuse; does nothing in a process that serves no HTTP."""
    wrap(_ENDPOINT, "run_wsi_inference", _refuse)
    # The newer endpoint reads its form before it calls that function.
    replace(_ENDPOINT, "json", lambda _: SimpleNamespace(loads=_refuse, dumps=json.dumps))


def _refuse(*arguments: Any, **keywords: Any) -> NoReturn:
    check_host_version(__name__)
    raise HTTPException(
        404, "Whole slides of pathology are not served here; volumes are. Use POST /infer/MODEL, with the clicks in "
        "'params'."
    )  # fmt: skip
