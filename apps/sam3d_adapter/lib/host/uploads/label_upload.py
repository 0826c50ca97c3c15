"""Patches: a label is stored over the one before whatever it is, and under whatever tag.

``PUT /datastore/label`` of MONAI Label 0.8.5 joins the tag to a path unchecked (``monailabel/datastore/local.py:495``),
copies any file over the label of before (``:502``), and answers 500 to an unknown image, to ``params`` that are no JSON
object (``monailabel/endpoints/datastore.py:111``), and with a DICOMweb server as data store to whatever cannot become a
DICOM SEG (``monailabel/datastore/dicom.py:194``). We know of no upstream issue.

Viewers save labels this way: 3D Slicer ``.nii.gz``, ``.nrrd`` or ``.seg.nrrd``, and OHIF voxels without a header
(``label.bin``), which can be understood beside a series of a PACS alone.
"""

import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.utils.app import app_instance

from lib.answer_warnings import answer_warning
from lib.host.json_object import read_object, require_storable
from lib.host.label_content import check_submitted
from lib.host.pacs.seg_writing import about, write_dicom_seg
from lib.host.patches.datastore_endpoints import require_image
from lib.host.patches.dicom_seg import require_label_info
from lib.host.patches.save_label import require_room, require_safe_tag
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap
from lib.host.proposal_outcome import with_outcome
from lib.host.requester import current_user
from lib.host.uploads.received_file import split_name, stored_copy
from lib.host.workflow import with_author
from lib.volumes.label_file import NotALabelError, read_label_file

SUFFIXES = (".nii.gz", ".nii", ".nrrd")
RAW = ".bin"
"""Bytes, one a voxel, in the order of the image's NIfTI file."""


def patch_label_upload() -> None:
    """Wraps the endpoint's function; does nothing in a process that serves no HTTP."""
    wrap("monailabel.endpoints.datastore", "save_label", _save_label)
    wrap("monailabel.datastore.dicom", "nifti_to_dicom_seg", write_dicom_seg)


def _save_label(
    host: Any,
    background_tasks: Any,
    image: str,
    params: str = "{}",
    tag: str = "",
    label: Any = None,
    *user: Any,
) -> Any:
    check_host_version(__name__)
    tag = tag or DefaultLabelTag.FINAL.value
    require_safe_tag(tag, "tag")
    read = read_object(params, "params")
    require_storable(read, "params")
    require_label_info(read.get("label_info"))
    app = app_instance()
    read = with_author(read, current_user(), may_review_own=app.workflow.may_review_own)
    datastore = app.datastore()
    is_pacs = isinstance(datastore, DICOMWebDatastore)
    _, suffix = split_name(label.filename, (*SUFFIXES, RAW) if is_pacs else SUFFIXES)
    require_image(image, datastore)
    with stored_copy(label, f"label{suffix}") as path:
        is_sent = is_pacs and tag == DefaultLabelTag.FINAL
        voxels = _read_raw(path, datastore.get_image_uri(image)) if suffix == RAW else _read_label(path)
        # A grid other than the image's is let through: what reads labels resamples them.
        said = check_submitted(path, image, tag, read, datastore)
        read = with_outcome(path, image, tag, read, datastore)
        if is_sent and not voxels.any():
            raise HTTPException(422, "The label is empty, and DICOM SEG cannot say so. Draw something, then save it.")
        require_room(Path(datastore._datastore.label_path(None)), path.stat().st_size)
    label.filename = f"label{suffix}"
    with about(read):
        answer = host(background_tasks, image, json.dumps(read), tag, label, *user)
    return {**answer, "warnings": [answer_warning("label-read", one) for one in said]} if said else answer


def _read_label(path: Path) -> np.ndarray:
    """Voxels of a label's file."""
    try:
        return read_label_file(path).voxels
    except NotALabelError as error:
        raise HTTPException(
            422, "The file holds an image, not a label: its values are not whole numbers from 0 on. Send the "
            "segmentation, exported as a label map."
        ) from error  # fmt: skip


def _read_raw(path: Path, image: str) -> np.ndarray:
    voxels, shape = np.fromfile(path, np.uint8), nib.load(image).shape
    if voxels.size != math.prod(shape):
        raise HTTPException(
            422, f"The label has {voxels.size} voxels of one byte; its series has {' x '.join(map(str, shape))}. Draw "
            "on the series itself, and save the label of all its slices."
        )  # fmt: skip
    return voxels
