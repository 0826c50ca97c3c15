"""Puts the mends of ``/infer`` that have to act before the app is asked around MONAI Label's endpoint.

MONAI Label 0.8.5 calls ``run_inference`` by its name in ``monailabel.endpoints.infer``, which is replaced here.
"""

import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from lib.host.dicom_seg import require_seg_output, with_reason
from lib.host.infer_params import read_params
from lib.host.infer_source import require_source
from lib.host.uploads import received
from lib.infers.options import LABEL_FILE_KEY

_ENDPOINT = "monailabel.endpoints.infer"


def mend_infer_endpoint() -> None:
    """Replaces the endpoint's function; does nothing in a process that serves no HTTP, as a background task.

    May be called again, for MONAI Label builds the app anew after ``/reload``: the newest replaces the one before.
    """
    endpoint = sys.modules.get(_ENDPOINT)
    if endpoint is None:
        return
    _replace(endpoint, "run_inference", lambda host: _with_checks(endpoint, host))
    _replace(endpoint, "nifti_to_dicom_seg", with_reason)


def restore_infer_endpoint() -> None:
    """Takes the mends off again, as if the app had not been loaded."""
    endpoint = sys.modules.get(_ENDPOINT)
    for name in ("run_inference", "nifti_to_dicom_seg"):
        if endpoint is not None:
            setattr(endpoint, name, _host_function(endpoint, name))


def _replace(endpoint: ModuleType, name: str, mend: Callable[[Any], Any]) -> None:
    host = _host_function(endpoint, name)
    mended = mend(host)
    mended.host_function = host
    setattr(endpoint, name, mended)


def _host_function(endpoint: ModuleType, name: str) -> Any:
    now = getattr(endpoint, name)
    return getattr(now, "host_function", now)


def _with_checks(endpoint: ModuleType, host: Any) -> Any:
    def run_inference(
        background_tasks: Any,
        model: str,
        image: str = "",
        session_id: str = "",
        params: str = "{}",
        file: Any = None,
        label: Any = None,
        output: Any = None,
    ) -> Any:
        read = read_params(params, model=model, image=image)
        app = endpoint.app_instance()
        require_source(image, session_id, bool(file), app.sessions())
        is_stored = not (file or session_id)
        require_seg_output(output, datastore=app.datastore(), is_stored=is_stored, label_info=read.get("label_info"))
        if label:
            read[LABEL_FILE_KEY] = True
        with received(file) as uploaded:
            return host(background_tasks, model, uploaded or image, session_id, json.dumps(read), None, None, output)

    return run_inference
