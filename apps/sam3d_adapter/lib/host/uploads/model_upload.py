"""Patches: weights sent to the server are stored, then refused with status 500.

MONAI Label 0.8.5 lets everybody replace the file of a model (``monailabel/endpoints/model.py:58``). The tasks of this
app name it none, for their weights are checked against their checksums and their base; what is left is status 500
after the upload (``:69``). We know of no upstream issue.
"""

from typing import Any, NoReturn

from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance

from lib.host.patches.unknown_model import require_model
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap


def patch_model_upload() -> None:
    """Makes the endpoint refuse; does nothing in a process that serves no HTTP."""
    wrap("monailabel.endpoints.model", "update_model", _update_model)


def _update_model(host: Any, background_tasks: Any, model: str, file: Any) -> NoReturn:
    check_host_version(__name__)
    require_model(model, app_instance()._infers)
    raise HTTPException(
        403, "Weights cannot be replaced through the server. Put them on its disk where the model's preset says "
        "(configs/MODEL.yaml); it takes them at the next click."
    )  # fmt: skip
