"""Patches ``/infer`` where a check must come before the app is asked.

The function that answers in MONAI Label 0.8.5 is ``run_inference`` (``monailabel/endpoints/infer.py:116``).
"""

import json
from typing import Any

from monailabel.interfaces.utils.app import app_instance

from lib.host.patches.dicom_seg import require_seg_output, seg_or_reason
from lib.host.patches.infer_params import read_params
from lib.host.patches.infer_source import require_source
from lib.host.patches.wrapping import wrap
from lib.host.uploads.infer_upload import received
from lib.requests.request import LABEL_FILE_KEY

_ENDPOINT = "monailabel.endpoints.infer"


def patch_infer_endpoint() -> None:
    """Wraps the endpoint's function; does nothing in a process that serves no HTTP."""
    wrap(_ENDPOINT, "run_inference", _infer)
    wrap(_ENDPOINT, "nifti_to_dicom_seg", seg_or_reason)


def _infer(
    host: Any,
    background_tasks: Any,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str = "{}",
    file: Any = None,
    label: Any = None,
    output: Any = None,
) -> Any:
    """Checks a request, then hands it to the host with its file stored and its parameters as one object."""
    app = app_instance()
    read = read_params(params, model=model, image=image)
    require_source(image, session_id, bool(file), app.sessions())
    is_stored = not (file or session_id)
    require_seg_output(output, datastore=app.datastore(), is_stored=is_stored, label_info=read.get("label_info"))
    with received(file) as uploaded, received(label) as label_map:
        if label_map:
            read[LABEL_FILE_KEY] = label_map
        return host(background_tasks, model, uploaded or image, session_id, json.dumps(read), None, None, output)
