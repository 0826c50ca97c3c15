"""Patches: every server offers inference on whole slides and the upload of weights, and answers status 500.

MONAI Label 0.8.5 has ``/infer/wsi`` and ``/infer/wsi_v2`` for pathology whatever the app is
(``monailabel/endpoints/wsi_infer.py:72``, ``:146``). It lets everybody replace the file of a model
(``monailabel/endpoints/model.py:58``). The tasks of this app name it none, for their weights are checked against their
checksums and their base; what is left is status 500 after the upload (``:69``). We know of no upstream issue.
"""

import json
from types import SimpleNamespace
from typing import Any, NoReturn

from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance

from lib.host.patches.unknown_names import require_model
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import replace, wrap

_WSI = "monailabel.endpoints.wsi_infer"


def refuse_endpoints() -> None:
    """Makes these endpoints refuse; does nothing in a process that serves no HTTP."""
    wrap(_WSI, "run_wsi_inference", _refuse_slides)
    # The newer endpoint reads its form before it calls that function.
    replace(_WSI, "json", lambda _: SimpleNamespace(loads=_refuse_slides, dumps=json.dumps))
    wrap("monailabel.endpoints.model", "update_model", _refuse_weights)


def _refuse_slides(*arguments: Any, **keywords: Any) -> NoReturn:
    check_host_version(__name__)
    raise HTTPException(
        404, "Whole slides of pathology are not served here; volumes are. Use POST /infer/MODEL, with the clicks in "
        "'params'."
    )  # fmt: skip


def _refuse_weights(host: Any, background_tasks: Any, model: str, file: Any) -> NoReturn:
    check_host_version(__name__)
    require_model(model, app_instance()._infers)
    raise HTTPException(
        403, "Weights cannot be replaced through the server. Put them on its disk where the model's preset says "
        "(configs/MODEL.yaml); it takes them at the next click."
    )  # fmt: skip
