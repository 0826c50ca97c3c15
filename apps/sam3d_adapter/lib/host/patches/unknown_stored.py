"""Patches: what is not in the data store is status 500, or a success; and ids of a PACS are joined to paths unchecked.

MONAI Label 0.8.5 raises its own exception, whose text never reaches a client, for an unknown image
(``monailabel/datastore/local.py:462``) and says nothing of an unknown label
(``monailabel/endpoints/datastore.py:126``). With a DICOMweb server as data store it lists, converts and sends whatever
folder ``image`` leads to (``monailabel/datastore/dicom.py:79``), and takes the id of a label for the UID of a series of
the PACS (``:100``), so that a final label can be neither fetched nor removed. We know of no upstream issue.
"""

import os
from typing import Any

from fastapi import HTTPException
from fastapi.responses import FileResponse
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type

from lib.host.pacs.dicom_fetch import fetch_series
from lib.host.pacs.same_slices import SERIES_HASH_KEY, current_hash, note_loaded
from lib.host.patches.image_access import is_known
from lib.host.patches.image_checksum import require_checksum
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap
from lib.prompts.reading import short

_ENDPOINT = "monailabel.endpoints.datastore"


def patch_datastore_ids() -> None:
    """Wraps the endpoints' functions; does nothing in a process that serves no HTTP."""
    for function in (remove_image, remove_label, download_image, download_label, get_image_info, get_label_info):
        wrap(_ENDPOINT, function.__name__, function)


def require_image(image: str, datastore: Any) -> None:
    """Passes if there is an image of that id; one of a PACS then lies in the cache, whole.

    Raises:
        HTTPException: 404 where there is none; what ``fetch_series`` raises.
    """
    check_host_version(__name__)
    if not (_is_plain(image) and is_known(image, datastore)):
        raise HTTPException(404, f"There is no image {short(image)} here; GET /datastore/?output=all lists the ids.")
    if isinstance(datastore, DICOMWebDatastore):
        fetch_series(image, datastore)


def require_label(label: str, tag: str, datastore: Any) -> None:
    """Passes if there is such a label.

    Raises:
        HTTPException: 404.
    """
    check_host_version(__name__)
    if not (_is_plain(label) and _is_plain(tag) and datastore._datastore.label(label, tag)):
        raise HTTPException(
            404, f"There is no label of image {short(label)} with tag {short(tag)} here; GET /datastore/?output=all "
            "lists the labels of each image."
        )  # fmt: skip


def remove_image(host: Any, id: str, user: str | None = None) -> Any:
    """Answers 404 to an unknown id, and 409 where the images are those of a PACS: its copies here would come back."""
    datastore = app_instance().datastore()
    if isinstance(datastore, DICOMWebDatastore):
        raise _in_the_pacs("Images")
    require_image(id, datastore)
    return host(id, user)


def remove_label(host: Any, id: str, tag: str, user: str | None = None) -> Any:
    """Answers 404 to an unknown label, and 409 to one that is a DICOM SEG of a PACS: it would come back."""
    datastore = app_instance().datastore()
    require_label(id, tag, datastore)
    if tag == DefaultLabelTag.FINAL and isinstance(datastore, DICOMWebDatastore):
        raise _in_the_pacs("Final labels")
    return host(id, tag, user)


def download_image(host: Any, image: str, check_only: bool = False, check_sum: str | None = None) -> Any:
    """Sends an image that the data store knows; of a PACS, as that has it now."""
    datastore = app_instance().datastore()
    require_image(image, datastore)
    if isinstance(datastore, DICOMWebDatastore) and not check_only and (found := current_hash(image, datastore)):
        note_loaded(image, datastore, found)
    if check_only and check_sum:
        require_checksum(datastore.get_image_uri(image), check_sum)
    return host(image, check_only)


def download_label(host: Any, label: str, tag: str, check_only: bool = False) -> Any:
    """Sends a label that the data store knows; of a final one of a PACS, what was saved here."""
    datastore = app_instance().datastore()
    require_label(label, tag, datastore)
    if tag != DefaultLabelTag.FINAL or not isinstance(datastore, DICOMWebDatastore):
        return host(label, tag, check_only)
    file = LocalDatastore.get_label_uri(datastore, label, tag)
    if not os.path.isfile(file):
        raise HTTPException(404, "The file of this label is gone from the server. Save the label again.")
    return {} if check_only else FileResponse(file, media_type=get_mime_type(file), filename=os.path.basename(file))


def get_image_info(host: Any, image: str) -> Any:
    """Answers 404 to an unknown id; says ``series_hash`` of a series of a PACS, null of one that cannot be used now."""
    datastore = app_instance().datastore()
    if not (_is_plain(image) and is_known(image, datastore)):
        require_image(image, datastore)
    if not isinstance(datastore, DICOMWebDatastore):
        return host(image)
    found = current_hash(image, datastore)
    return {**host(image), SERIES_HASH_KEY: found}


def get_label_info(host: Any, label: str, tag: str) -> Any:
    """Answers 404 to an unknown label."""
    require_label(label, tag, app_instance().datastore())
    return host(label, tag)


def _is_plain(name: str) -> bool:
    # The index of a data store may hold names from before there was a check.
    return name not in ("", ".", "..") and not any(character in name for character in "/\\\x00")


def _in_the_pacs(what: str) -> HTTPException:
    return HTTPException(
        409, f"{what} of this server lie in a DICOMweb server, and would come back from there. Delete them there."
    )
