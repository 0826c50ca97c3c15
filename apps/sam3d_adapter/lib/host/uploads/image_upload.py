"""Patches: an image is stored under whatever name it is given, whatever is in it, over whatever is there.

``PUT /datastore/image`` of MONAI Label 0.8.5 joins the id to a path unchecked (``monailabel/datastore/local.py:441``):
``../../x`` writes outside the data store. It takes any file for an image, cuts an id out of a file's name at its first
dot, so that all series of one scanner are called ``1`` (``monailabel/endpoints/datastore.py:69``), and copies over an
image of the same id, whose labels it forgets until it finds them again and takes them for those of the new image
(``local.py:452``). We know of no upstream issue.
"""

import json
import os
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.utils.app import app_instance

from lib.host.patches.save_label import require_room
from lib.host.patches.stored_info import read_info
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap
from lib.host.uploads.received_file import split_name, stored_copy
from lib.prompts.reading import short
from lib.studies.listing import is_temporary
from lib.volumes.memory import MemoryShortage
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError, Volume

SUFFIXES = (".nii.gz", ".nii", ".nrrd")
"""Of files that can be read, and that the data store finds again when its index is lost."""
_MAX_ID_BYTES = 200
"""File systems take names of 255."""


def patch_image_upload() -> None:
    """Wraps the endpoint's function; does nothing in a process that serves no HTTP."""
    wrap("monailabel.endpoints.datastore", "add_image", _add_image)


def require_id(image: str) -> None:
    """Passes if an id can be the name of a file of the data store, and no other.

    Names of patients and series are ids, so all printable characters of any script will do.

    Raises:
        HTTPException: 422.
    """
    hidden = not image or image.startswith(".") or image != image.strip() or not image.isprintable()
    # The data store takes every such end out of a name, wherever it is, to get the id.
    has_suffix = any(suffix in image.lower() for suffix in SUFFIXES)
    is_long = len(image.encode(errors="replace")) > _MAX_ID_BYTES
    if hidden or is_temporary(image) or has_suffix or is_long or "/" in image or "\\" in image:
        raise HTTPException(
            422, f"The image id is {short(image)}; a name of 1 to {_MAX_ID_BYTES} bytes without '/', '\\', "
            f"{SUFFIXES[1]}, {SUFFIXES[2]}, control characters, a '.' in front, blanks around it or the "
            "ending of a temporary file is expected. Choose another."
        )  # fmt: skip


def _add_image(
    host: Any, background_tasks: Any, image: str | None = None, params: str = "{}", file: Any = None, *user: Any
) -> Any:
    check_host_version(__name__)
    datastore = app_instance().datastore()
    if isinstance(datastore, DICOMWebDatastore):
        # The host puts it into its cache of the PACS, where nobody finds it.
        raise HTTPException(409, "Images of this server come from a DICOMweb server. Send the series there.")
    info = read_info(params, "params")
    stem, suffix = split_name(file.filename, SUFFIXES)
    image = image or stem
    require_id(image)
    with stored_copy(file, f"image{suffix}") as path:
        volume = read_volume(path)
        if _is_there(image, datastore):
            return _same_or_refused(image, datastore, volume)
        require_room(Path(datastore._datastore.image_path()), path.stat().st_size)
    file.filename = f"image{suffix}"
    return host(background_tasks, image, json.dumps(info), file, *user)


def _is_there(image: str, datastore: Any) -> bool:
    # The index lags behind a file that was removed just now, or put there by hand.
    uri = datastore.get_image_uri(image)
    folder = datastore._datastore.image_path()
    return (uri and os.path.exists(uri)) or any(os.path.lexists(os.path.join(folder, image + s)) for s in SUFFIXES)


def _same_or_refused(image: str, datastore: Any, volume: Volume) -> dict[str, str]:
    """An image that is there is never replaced: its labels, its records and the masks in viewers are of its voxels.

    The same voxels once more are no harm: a client that lost the answer may ask again.
    """
    try:
        is_same = read_volume(Path(datastore.get_image_uri(image))).content_key == volume.content_key
    except (ImageError, MemoryShortage, OSError):
        is_same = False
    if not is_same:
        raise HTTPException(
            409, f"There is another image {short(image)} already, and labels may belong to it. Choose another id, or "
            "remove that image first (DELETE /datastore/image)."
        )  # fmt: skip
    return {"image": image}
