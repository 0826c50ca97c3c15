"""Patches: a mask is saved where nobody asked for it, or outside the data store; a full disk damages saved labels.

MONAI Label 0.8.5 saves for every value of ``save_label`` that is not empty, "false" included, though forms of viewers
send text, says nothing where it does not save, and leaves the mask in the temporary folder where saving fails
(``monailabel/interfaces/app.py:311``). On a full disk it has by then overwritten the label of before, and may cut its
index of all labels to nothing (``monailabel/datastore/local.py:502``, ``:687``). It joins ``label_tag`` in ``params``,
and ``tag`` of ``PUT /datastore/label``, to a path unchecked (``:495``): ``../../x`` writes outside the data store. We
know of no upstream issue.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from lib.answer_warnings import answer_warning
from lib.host.label_content import check_submitted
from lib.host.pacs.seg_writing import about
from lib.host.patches.version_guard import check_host_version
from lib.prompts.reading import short

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_TEXTS = {"true": True, "1": True, "false": False, "0": False, "": False}
_INDEX_BYTES = 2**20
"""Room for the index of the labels."""
NOT_SAVED = answer_warning(
    "not-saved", "The mask was not saved: only one of an image of this server can be, not of a file or a session."
)


def read_save_label(value: Any) -> bool:
    """Whether the mask is to be saved beside its image.

    Raises:
        HTTPException: 422.
    """
    check_host_version(__name__)
    if value is None or isinstance(value, bool):
        return bool(value)
    text = str(value).strip().lower() if isinstance(value, str | int) else None
    if text not in _TEXTS:
        raise HTTPException(422, f"save_label is {short(value)}; true or false is needed.")
    return _TEXTS[text]


def require_safe_tag(tag: object, name: str = "label_tag") -> None:
    """Passes if ``tag`` is absent or a plain name.

    Args:
        tag: as sent.
        name: of what it came in, for messages.

    Raises:
        HTTPException: 422.
    """
    check_host_version(__name__)
    if tag is not None and not (isinstance(tag, str) and _TAG.fullmatch(tag)):
        raise HTTPException(
            422, f"{name} is {short(tag)}; it must be a plain name of letters, digits, '.', '_' and '-', at most 64 of "
            "them, the first no '.'. Choose another."
        )  # fmt: skip


def save_mask(answer: Mapping[str, Any], request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
    """The answer to a request, its mask saved as a label of the image.

    Args:
        answer: of MONAI Label's ``infer``, with ``file`` and ``params``.
        request: with ``image``, ``model`` and, perhaps, ``label_tag``.
        datastore: of the app.

    Raises:
        HTTPException: 503 where there is no room; nothing was touched then.
        OSError: the label cannot be written.
    """
    file, params, image = answer["file"], answer["params"], request["image"]
    if os.path.exists(image):
        params["warnings"] = [*params.get("warnings", ()), NOT_SAVED]
        return dict(answer)
    tag = request.get("label_tag") or DefaultLabelTag.ORIGINAL
    info = {"model": request["model"], "params": params}
    try:
        try:
            said = check_submitted(Path(file), image, tag, info, datastore)
        except HTTPException as error:
            # The mask is shown all the same; only the saved label stays as it is.
            params["warnings"] = [
                *params.get("warnings", ()),
                answer_warning("not-saved", f"The mask was not saved. {error.detail}"),
            ]
            return dict(answer)
        if said:
            params["warnings"] = [*params.get("warnings", ()), *(answer_warning("label-read", one) for one in said)]
        require_room(Path(datastore._datastore.label_path(None)), os.path.getsize(file))
        with about(info):
            label = datastore.save_label(image, file, tag, info)
    except BaseException:
        Path(file).unlink(missing_ok=True)
        raise
    return {**answer, "label": label}


def require_room(folder: Path, nbytes: int) -> None:
    """Passes if the disk of the images has room for a file and for the index, which is written anew with each.

    Args:
        folder: of the data store; it may be made with its first file.
        nbytes: of the file.

    Raises:
        HTTPException: 503.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if shutil.disk_usage(there).free < nbytes + _INDEX_BYTES:
        raise HTTPException(
            503, "The disk of the images is full, so nothing was saved. Ask the server's administrator to make room, "
            "then try again."
        )  # fmt: skip
