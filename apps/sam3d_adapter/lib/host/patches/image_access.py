"""Patches: ``/infer`` opens any file of the server that is named in place of an image id.

MONAI Label 0.8.5 takes ``image``, from the query or from ``params``, as a path if it exists
(``monailabel/interfaces/app.py:283``), and answers 500 to an id it does not know. Here only images of the data store,
images of uploaded sessions and the file uploaded with the very request are let through; all else is 404. We know of no
upstream issue.
"""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.datastore import Datastore

from lib.host.pacs.dicom_fetch import fetch_series
from lib.host.pacs.same_slices import SERIES_HASH_KEY, read_series_hash, require_same_slices
from lib.host.patches.version_guard import check_host_version
from lib.host.uploads.received_file import is_received
from lib.prompts.reading import short

logger = logging.getLogger(__name__)

_DICOM_UID = re.compile(r"\d+(\.\d+)+")
_RESULT_EXTENSIONS = (".nii.gz", ".nii", ".nrrd")


def admit_image(request: Mapping[str, Any], datastore: Datastore, sessions: Any) -> dict[str, Any]:
    """The request with an image that may be read, and the ``series_hash`` of the slices of a series of a PACS.

    Args:
        request: as MONAI Label hands it to the app.
        datastore: the app's images.
        sessions: MONAI Label's ``Sessions``, or None where they are switched off.

    Raises:
        HTTPException: 404 where there is no such image, 422 for a ``series_hash`` of what is no series of a PACS; what
            ``fetch_series`` and ``require_same_slices`` raise.
    """
    check_host_version(__name__)
    admitted = dict(request)
    image = request.get("image")
    if not isinstance(image, str) or not image:
        raise HTTPException(
            404, "No image: give the id of an image of this server, a file, or a session that is alive."
        )
    # No file has such a name, and what asks the system for one raises.
    is_name = "\x00" not in image
    # First what needs no folder of images, which may be away just now.
    if is_name and _is_session_image(image, sessions):
        _require_no_series_hash(request)
        return admitted
    if is_received(image):
        _require_no_series_hash(request)
        # MITK reads the answer by the extension of what it sent.
        extension = next((known for known in _RESULT_EXTENSIONS if image.endswith(known)), None)
        if extension and not request.get("result_extension"):
            admitted["result_extension"] = extension
        return admitted
    if is_name and is_known(image, datastore):
        if isinstance(datastore, DICOMWebDatastore):
            admitted[SERIES_HASH_KEY] = require_same_slices(image, datastore, request)
        else:
            _require_no_series_hash(request)
        # MONAI Label prefers a file of that name in the working directory of the server to the image of that id.
        if os.path.exists(image):
            admitted["image"] = datastore.get_image_uri(image)
        return admitted
    logger.warning("Refused an image that is not of this server.")
    raise HTTPException(404, f"There is no image {short(image)} here; GET /datastore/ lists the ids.")


def is_known(image: str, datastore: Datastore) -> bool:
    """Whether there is an image of that id; a series of a PACS that the list does not have yet is fetched.

    Raises:
        HTTPException: what ``fetch_series`` raises for such a series, save that there is none.
    """
    if image in datastore.list_images():
        return True
    if not isinstance(datastore, DICOMWebDatastore) or not _DICOM_UID.fullmatch(image):
        return False
    # The list of series is cached for minutes; a series that reached the PACS meanwhile is asked for by its UID.
    try:
        fetch_series(image, datastore)
    except HTTPException as error:
        if error.status_code == 404:
            return False
        raise
    return True


def _require_no_series_hash(request: Mapping[str, Any]) -> None:
    if sent := read_series_hash(request):
        raise HTTPException(
            422, f"series_hash is {short(sent)}, but this image is no series of a DICOMweb server; leave it out."
        )


def _is_session_image(image: str, sessions: Any) -> bool:
    if sessions is None:
        return False
    path, store = Path(os.path.realpath(image)), Path(os.path.realpath(sessions.store_path))
    if store not in path.parents:
        return False
    session = sessions.get_session(path.relative_to(store).parts[0])
    return session is not None and os.path.realpath(session.image) == str(path)
