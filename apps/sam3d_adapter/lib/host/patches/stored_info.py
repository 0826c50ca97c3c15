"""Patches: descriptions of images and labels are taken as they come, and may stop the data store for everybody.

MONAI Label 0.8.5 answers 500 to one that is not JSON or belongs to nothing, and keeps whatever else it gets
(``monailabel/endpoints/datastore.py:170``, ``:185``): after a NaN no list of the data store can be sent, after half a
character the server does not start again, and after a ``strategy`` of the wrong kind there is no next sample
(``monailabel/tasks/activelearning/random.py:40``). We know of no upstream issue.
"""

import json
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.utils.app import app_instance

from lib.host.json_object import read_object, require_storable
from lib.host.label_content import check_submitted
from lib.host.patches.datastore_endpoints import require_image, require_label
from lib.host.patches.dicom_seg import require_label_info
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap
from lib.host.workflow import settled_meta
from lib.prompts.reading import short
from lib.workflow.proposals import KEY
from lib.workflow.reviews import APPROVED, LOGIN, META, author_of

_ENDPOINT = "monailabel.endpoints.datastore"


def patch_info_endpoints() -> None:
    """Wraps the endpoints' functions; does nothing in a process that serves no HTTP."""
    wrap(_ENDPOINT, "update_image_info", _update_image_info)
    wrap(_ENDPOINT, "update_label_info", _update_label_info)


def read_info(text: str, name: str) -> dict[str, Any]:
    """The description of an image or a label.

    Args:
        text: as sent.
        name: of the field, for messages.

    Raises:
        HTTPException: 413, 422.
    """
    check_host_version(__name__)
    info = read_object(text, name)
    require_storable(info, name)
    served = info.get("strategy", {})
    if not isinstance(served, dict) or not all(_is_time(entry) for entry in served.values()):
        raise HTTPException(
            422, f"'strategy' of '{name}' is {short(served)}; the server notes there when a strategy chose the image, "
            'as {"random": {"ts": seconds}}. Leave it out.'
        )  # fmt: skip
    return info


def _is_time(entry: Any) -> bool:
    seconds = entry.get("ts", 0) if isinstance(entry, dict) else None
    # Beyond the year 5138 it is no time, and its weight would shut out all other images.
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 1e11


def _update_image_info(host: Any, image: str, info: str = "{}", user: str | None = None) -> Any:
    read = read_info(info, "info")
    require_image(image, app_instance().datastore())
    return host(image, json.dumps(read), user)


def _update_label_info(host: Any, label: str, tag: str, info: str = "{}", user: str | None = None) -> Any:
    read = read_info(info, "info")
    app = app_instance()
    datastore = app.datastore()
    require_label(label, tag, datastore)
    read = settled_meta({key: value for key, value in read.items() if key not in (LOGIN, KEY)})
    if META in read and read[META]["status"] == APPROVED:
        author = author_of(LocalDatastore.get_label_info(datastore, label, tag))
        app.workflow.require_other(read[META]["approvedBy"], author)
    if {"label_info", "label_names", "params"} & read.keys():
        require_label_info(read.get("label_info"))
        file = Path(LocalDatastore.get_label_uri(datastore, label, tag))
        check_submitted(file, label, tag, {**LocalDatastore.get_label_info(datastore, label, tag), **read}, datastore)
    return host(label, tag, json.dumps(read), user)
