"""Patches: an answer as DICOM SEG that cannot be made is status 500, after all the work.

MONAI Label 0.8.5 looks only after the inference whether images come from a PACS at all
(``monailabel/endpoints/infer.py:180``). We know of no upstream issue.
"""

from typing import Any

from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore

from lib.host.patches.version_guard import check_host_version
from lib.prompts.reading import short


def require_seg_output(output: Any, *, datastore: Any, is_stored: bool, label_info: Any) -> None:
    """Passes if DICOM SEG is not asked for, or can be made.

    Args:
        output: what the client asked for.
        datastore: the app's images.
        is_stored: whether the image is one of the data store, as opposed to a file or a session.
        label_info: of ``params``.

    Raises:
        HTTPException: 422.
    """
    check_host_version(__name__)
    if output != "dicom_seg":
        return
    if not isinstance(datastore, DICOMWebDatastore) or not is_stored:
        raise HTTPException(422, "output=dicom_seg needs an image of a DICOMweb server; choose output=image or all.")
    named = isinstance(label_info, list) and label_info and all(isinstance(entry, dict) for entry in label_info)
    if not named or not all(isinstance(entry.get("name", ""), str) for entry in label_info):
        raise HTTPException(
            422, 'output=dicom_seg needs \'label_info\' in \'params\', such as [{"name": "lesion", "idx": 1}].'
        )


def require_label_info(label_info: Any) -> None:
    """Passes if names and colours of segments are absent, or of the kinds that can be written into a DICOM SEG.

    Args:
        label_info: of ``params``.

    Raises:
        HTTPException: 422.
    """
    check_host_version(__name__)
    entries = [] if label_info is None else label_info
    if not isinstance(entries, list) or not all(_is_segment(entry) for entry in entries):
        raise HTTPException(
            422, f"'label_info' is {short(label_info)}; a list of segments, in the order of their values, is expected, "
            'such as [{"name": "lesion", "idx": 1, "color": [255, 0, 0]}]. Correct it, or leave it out.'
        )  # fmt: skip


def _is_segment(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("segmentAttribute", {}), dict):
        return False
    color = entry.get("color", (0, 0, 0))
    is_color = isinstance(color, list | tuple) and len(color) >= 3 and all(type(part) in (int, float) for part in color)
    return is_color and all(isinstance(entry.get(key, ""), str) for key in ("name", "description", "model_name"))
