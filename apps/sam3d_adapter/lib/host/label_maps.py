"""The label maps a request may take from: the saved one of its image, and the one that comes with it.

Tasks of MONAI Label 0.8.5 get paths alone, and its endpoint reads a mask sent as ``label`` with the whole image before
any check (``monailabel/endpoints/infer.py:155``). Here the task gets the path of a file that was really received, and
of a label of the very image; whatever a client puts under these keys is refused.
"""

import os
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore

from lib.host.patches.save_label import require_safe_tag
from lib.host.uploads.received_file import is_received
from lib.prompts.reading import short
from lib.requests.request import DEFAULT_READ_TAG, LABEL_FILE_KEY, SAVED_LABEL_KEY, SAVED_NAMES_KEY, SERVER_KEYS


def admit_label_maps(request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
    """What the task may read beside the image; nothing where the request asks for nothing.

    Args:
        request: as MONAI Label hands it to the app; its image is admitted.
        datastore: the app's images.

    Returns:
        Further entries of the request.

    Raises:
        HTTPException: 404 where the image has no such label, 422 for all else.
    """
    for key in SERVER_KEYS:
        if key in request and not (key == LABEL_FILE_KEY and _is_path_received(request[key])):
            raise HTTPException(
                422, f"'{key}' is set by the server. Send a mask as the part 'label' of the form, or name the saved "
                "one: \"start_from\": \"label\"."
            )  # fmt: skip
    if "label" not in (request.get("start_from"), request.get("protected")):
        return {}
    image, tag = request["image"], request.get("read_tag") or DEFAULT_READ_TAG
    require_safe_tag(tag, "read_tag")
    if is_received(image) or image not in datastore.list_images():
        raise HTTPException(
            422, "The request asks for the saved label of its image, but only images of this server have one. Send the "
            "mask as the part 'label' of the form, and say 'upload' in place of 'label'."
        )  # fmt: skip
    # The data store of a DICOMweb server takes the id of a final label for the UID of a series of the PACS.
    path = LocalDatastore.get_label_uri(datastore, image, tag)
    if not path or not os.path.isfile(path):
        tags = sorted(datastore.get_labels_by_image_id(image))
        known = f"there are {', '.join(map(short, tags))}" if tags else "it has none"
        raise HTTPException(
            404, f"Image {short(image)} has no saved label with tag {short(tag)}; {known}. Save one, or name its tag "
            "in 'read_tag'."
        )  # fmt: skip
    info = LocalDatastore.get_label_info(datastore, image, tag)
    return {SAVED_LABEL_KEY: path, SAVED_NAMES_KEY: _names(info)}


def _is_path_received(path: Any) -> bool:
    return isinstance(path, str) and is_received(path)


def _names(info: Mapping[str, Any]) -> list[str]:
    """Of the segments, in the order in which they were saved; none where they are not all known."""
    entries = info.get("label_info")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return []
    names = [entry.get("name") for entry in entries]
    return names if all(isinstance(name, str) for name in names) else []
