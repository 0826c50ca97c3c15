"""Puts the mends of ``/infer`` that have to act before the app is asked around MONAI Label's endpoint.

MONAI Label 0.8.5 calls ``run_inference`` by its name in ``monailabel.endpoints.infer``, which is replaced here.
"""

import json
import sys
from types import ModuleType
from typing import Any

from lib.host.dicom_seg import require_seg_output, with_reason
from lib.host.infer_params import read_params
from lib.host.infer_source import require_source
from lib.host.uploads import received
from lib.infers.options import LABEL_FILE_KEY

_ENDPOINT = "monailabel.endpoints.infer"


def mend_infer_endpoint() -> None:
    """Puts the checks around the endpoint's function; does nothing in a process that serves no HTTP.

    May be called again, for MONAI Label builds the app anew after ``/reload``: the newest checks then replace those
    before, whose module has no part in the new app, and whatever else was put around the function stays.
    """
    endpoint = sys.modules.get(_ENDPOINT)
    if endpoint is None:
        return
    endpoint.infer_checks = _infer  # type: ignore[attr-defined]
    if not hasattr(endpoint.run_inference, "host_function"):
        _replace(endpoint, "run_inference", _with_checks(endpoint, endpoint.run_inference))
        _replace(endpoint, "nifti_to_dicom_seg", with_reason(endpoint.nifti_to_dicom_seg))


def restore_infer_endpoint() -> None:
    """Takes the mends off again, as if the app had not been loaded."""
    endpoint = sys.modules.get(_ENDPOINT)
    for name in ("run_inference", "nifti_to_dicom_seg"):
        if endpoint is not None:
            now = getattr(endpoint, name)
            setattr(endpoint, name, getattr(now, "host_function", now))


def _replace(endpoint: ModuleType, name: str, mended: Any) -> None:
    mended.host_function = getattr(endpoint, name)
    setattr(endpoint, name, mended)


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
        arguments = (background_tasks, model, image, session_id, params, file, label, output)
        return endpoint.infer_checks(endpoint.app_instance(), host, *arguments)

    return run_inference


def _infer(
    app: Any,
    host: Any,
    background_tasks: Any,
    model: str,
    image: str,
    session_id: str,
    params: str,
    file: Any,
    label: Any,
    output: Any,
) -> Any:
    """Checks a request, then hands it to the host with its file stored and its parameters as one object."""
    read = read_params(params, model=model, image=image)
    require_source(image, session_id, bool(file), app.sessions())
    is_stored = not (file or session_id)
    require_seg_output(output, datastore=app.datastore(), is_stored=is_stored, label_info=read.get("label_info"))
    if label:
        read[LABEL_FILE_KEY] = True
    with received(file) as uploaded:
        return host(background_tasks, model, uploaded or image, session_id, json.dumps(read), None, None, output)
