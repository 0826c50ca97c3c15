"""Mends: an answer as DICOM SEG that cannot be made is status 500, after all the work.

MONAI Label 0.8.5 looks only after the inference whether images come from a PACS at all
(``monailabel/endpoints/infer.py:180``), and for an empty mask sends a file that was never written
(``monailabel/datastore/utils/convert.py:138``, which returns an empty path). We know of no upstream issue.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore

from lib.host.version_guard import check_host_version


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
    check_host_version("dicom_seg")
    if output != "dicom_seg":
        return
    if not isinstance(datastore, DICOMWebDatastore) or not is_stored:
        raise HTTPException(422, "output=dicom_seg needs an image of a DICOMweb server; choose output=image or all.")
    named = isinstance(label_info, list) and label_info and all(isinstance(entry, dict) for entry in label_info)
    if not named or not all(isinstance(entry.get("name", ""), str) for entry in label_info):
        raise HTTPException(
            422, 'output=dicom_seg needs \'label_info\' in \'params\', such as [{"name": "lesion", "idx": 1}].'
        )


def with_reason(convert: Callable[..., str]) -> Callable[..., str]:
    """``nifti_to_dicom_seg`` that answers 422 for an empty mask, instead of the path of a file that does not exist."""

    def nifti_to_dicom_seg(*arguments: Any, **keywords: Any) -> str:
        file = convert(*arguments, **keywords)
        if not file or not Path(file).is_file():
            raise HTTPException(
                422, "The mask is empty, or the tool that writes DICOM SEG (itkimage2segimage) failed. Click again, or "
                "choose output=image."
            )  # fmt: skip
        return file

    return nifti_to_dicom_seg
