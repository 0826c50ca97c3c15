"""The look at a label's content before it is stored, for whatever way leads to that."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore

from lib.annotations.label_check import LabelRefused, check_label
from lib.host.patches.version_guard import check_host_version
from lib.host.studies_datastore import tag_text
from lib.workflow.reviews import is_reviewed

logger = logging.getLogger(__name__)


def check_submitted(label: Path, image: str, tag: str, info: Mapping[str, Any], datastore: Any) -> list[str]:
    """Passes if a label can be stored; only submitted labels are learned from, others may hold anything.

    Args:
        label: its file.
        image: id of its image.
        tag: under which it is to be stored.
        info: what comes with it.
        datastore: of the app.

    Returns:
        Sentences for the user on how it is read; they are in the log too.

    Raises:
        HTTPException: 422.
        ImageError: a damaged file; so do OSError and MemoryShortage.
    """
    check_host_version(__name__)
    if not is_reviewed(tag_text(tag)):
        return []
    # The data store of a DICOMweb server takes the id of a final label for the UID of a series of the PACS.
    saved = LocalDatastore.get_label_uri(datastore, image, tag)
    before = Path(saved) if saved and Path(saved).is_file() else None
    try:
        said = check_label(label, Path(datastore.get_image_uri(image)), info, before=before)
    except LabelRefused as error:
        logger.warning("A label was refused. %s", str(error))
        raise HTTPException(422, str(error)) from error
    for sentence in said:
        logger.info("A label was saved. %s", sentence)
    return said
