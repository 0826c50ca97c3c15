"""Patches: what is not in the data store is status 500, or a success; and ids of a PACS are joined to paths unchecked.

MONAI Label 0.8.5 raises its own exception, whose text never reaches a client, for an unknown image
(``monailabel/datastore/local.py:462``) and says nothing of an unknown label
(``monailabel/endpoints/datastore.py:126``). With a DICOMweb server as data store it lists, converts and sends whatever
folder ``image`` leads to (``monailabel/datastore/dicom.py:79``), and takes the id of a label for the UID of a series of
the PACS (``:100``), so that a final label can be neither fetched nor removed.

``HEAD /datastore/image?check_sum=SHA256:...`` cuts the name of the algorithm, and digits that are in it, from what was
asked for and compares the rest with a text that begins with that name (``monailabel/endpoints/datastore.py:143``), so
that an image never has its checksum. ``GET /datastore/dataset`` asserts that there is a labelled image
(``monailabel/datastore/local.py:386``). We know of no upstream issue.
"""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from fastapi.responses import FileResponse
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum, get_mime_type

from lib.files.checksums import file_sha256
from lib.host.pacs.dicom_fetch import fetch_series
from lib.host.pacs.same_slices import SERIES_HASH_KEY, current_hash, note_loaded
from lib.host.patches.image_access import is_known
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap
from lib.host.requester import current_address, current_user
from lib.prompts.reading import short
from lib.studies.label_changes import By

_ENDPOINT = "monailabel.endpoints.datastore"
_ALGORITHMS = ("SHA256", "SHA512", "MD5")


def patch_datastore_endpoints() -> None:
    """Wraps the endpoints' functions; does nothing in a process that serves no HTTP."""
    for function in (remove_image, remove_label, download_image, download_label, get_image_info, get_label_info):
        wrap(_ENDPOINT, function.__name__, function)
    wrap(_ENDPOINT, "download_dataset", _download_dataset)


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


def require_checksum(file: str, check_sum: str) -> None:
    """Passes if a file has that checksum.

    Args:
        file: path.
        check_sum: in hexadecimal digits, behind the algorithm and a colon; SHA256 where none is named.

    Raises:
        HTTPException: 422 for an unknown algorithm, 404 for another checksum.
    """
    check_host_version(__name__)
    algorithm, _, digits = check_sum.rpartition(":")
    algorithm = algorithm or _ALGORITHMS[0]
    if algorithm not in _ALGORITHMS:
        raise HTTPException(422, f"check_sum names {short(algorithm)}; one of {', '.join(_ALGORITHMS)} is expected.")
    if file_checksum(file, algo=algorithm) != f"{algorithm}:{digits.lower()}":
        raise HTTPException(404, "The image here has another checksum. Send the image again under another id.")


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
    """Sends a label that the data store knows, and records it; of a final one of a PACS, what was saved here."""
    app = app_instance()
    datastore = app.datastore()
    require_label(label, tag, datastore)
    is_of_pacs = tag == DefaultLabelTag.FINAL and isinstance(datastore, DICOMWebDatastore)
    file = (LocalDatastore if is_of_pacs else type(datastore)).get_label_uri(datastore, label, tag)
    if not os.path.isfile(file):
        raise HTTPException(404, "The file of this label is gone from the server. Save the label again.")
    if check_only:
        return {}
    app.auditor.record_export([(label, file_sha256(Path(file)))], By(current_user(), current_address()))
    return FileResponse(file, media_type=get_mime_type(file), filename=os.path.basename(file))


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


def _download_dataset(host: Any, limit_cases: int | None = None) -> Any:
    check_host_version(__name__)
    if not app_instance().datastore().datalist():
        raise HTTPException(404, "No image has a final label yet, so there is nothing to download. Save a label first.")
    answer = host(limit_cases)
    archive = Path(answer.path)
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.startswith("label/")]
        labels = [(_id_of(name), hashlib.sha256(opened.read(name)).hexdigest()) for name in names]
    app_instance().auditor.record_export(labels, By(current_user(), current_address()), file_sha256(archive))
    return answer


def _id_of(name: str) -> str:
    return str(app_instance().datastore()._to_id(os.path.basename(name))[0])


def _is_plain(name: str) -> bool:
    # The index of a data store may hold names from before there was a check.
    return name not in ("", ".", "..") and not any(character in name for character in "/\\\x00")


def _in_the_pacs(what: str) -> HTTPException:
    return HTTPException(
        409, f"{what} of this server lie in a DICOMweb server, and would come back from there. Delete them there."
    )
