"""Patches: ``/infer`` answers status 500 to wrong requests, or answers for another image, model or time limit.

MONAI Label 0.8.5 reads ``params`` without a check (``monailabel/endpoints/infer.py:165``), takes the last of equal
keys, lets ``image`` and ``model`` override the address, and copies and prints whatever depth they have. Without any
image it answers status 500 (``:131``). If a session is over, it goes on with ``image`` of the address, so that the mask
belongs to another image than the user sees (``:168``). It takes ``timeout`` of ``params`` where it infers in a pool of
threads (``monailabel/interfaces/app.py:302``); the request then ends in status 500 while the work goes on. We know of
no upstream issue.

The function that answers is ``run_inference`` (``monailabel/endpoints/infer.py:116``).
"""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance

from lib.host.json_object import read_object
from lib.host.pacs.seg_writing import about, write_dicom_seg
from lib.host.patches.dicom_seg import require_seg_output
from lib.host.patches.sessions import is_alive
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap
from lib.host.uploads.received_file import received
from lib.requests.request import LABEL_FILE_KEY

_ENDPOINT = "monailabel.endpoints.infer"
_EXPECTED = 'A JSON object is expected, such as {"foreground": [[i, j, k]]}.'
_NO_IMAGE = "No image: give the id of an image of this server (image=...), a file, or a session that is alive."


def patch_infer_endpoint() -> None:
    """Wraps the endpoint's function; does nothing in a process that serves no HTTP."""
    wrap(_ENDPOINT, "run_inference", _infer)
    wrap(_ENDPOINT, "nifti_to_dicom_seg", write_dicom_seg)


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
    with received(file) as uploaded, received(label) as label_map, about({"model": model}):
        if label_map:
            read[LABEL_FILE_KEY] = label_map
        return host(background_tasks, model, uploaded or image, session_id, json.dumps(read), None, None, output)


def read_params(text: str, *, model: str, image: str) -> dict[str, Any]:
    """``params`` of a request.

    Args:
        text: as sent; may be empty.
        model: of the address.
        image: of the address.

    Returns:
        Them, without ``model`` and ``image``.

    Raises:
        HTTPException: 413 for too many, 422 for all else.
    """
    check_host_version(__name__)
    params = read_object(text, "params", _EXPECTED)
    for key, address in (("model", model), ("image", image)):
        if params.pop(key, address) != address:
            raise HTTPException(
                422, f"'params' names another {key} than the address of the request; name it in the address alone."
            )
    return params


def require_source(image: str, session_id: str, has_file: bool, sessions: Any) -> None:
    """Passes if there is something to segment.

    Args:
        image: of the address; may be empty.
        session_id: of the address; may be empty.
        has_file: whether a file came with the request.
        sessions: MONAI Label's ``Sessions``, or None where they are switched off.

    Raises:
        HTTPException: 422 where nothing is named, 404 where the session is over.
    """
    check_host_version(__name__)
    if not (image or session_id or has_file):
        raise HTTPException(422, _NO_IMAGE)
    if session_id and not is_alive(session_id, sessions):
        raise HTTPException(404, "There is no such session here, or it is over. Send the image again.")


def without_timeout(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request with the server's own limit."""
    check_host_version(__name__)
    return {key: value for key, value in request.items() if key != "timeout"}
