"""The newest label that is saved for an image, for the task that proposes it."""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from lib.host.patches.save_label import read_save_label
from lib.host.uploads.received_file import is_received
from lib.host.workflow import Workflow
from lib.infers.proposal import PROPOSAL, SAVED_INFO_KEY, SAVED_WORDS_KEY
from lib.requests.request import SAVED_LABEL_KEY
from lib.workflow.proposals import is_proposal, is_rejected, predicted_dice_in_words
from lib.workflow.reviews import DRAFT, REJECTED, author_of, is_reviewed, state_of

logger = logging.getLogger(__name__)

_ORIGINAL = DefaultLabelTag.ORIGINAL.value


def admit_saved_label(request: Mapping[str, Any], datastore: Datastore, workflow: Workflow) -> dict[str, Any]:
    """What the task that proposes masks may read beside the image; nothing for other tasks.

    Args:
        request: as MONAI Label hands it to the app; its image is admitted.
        datastore: the app's images.
        workflow: has the review decisions.

    Returns:
        Further entries of the request.

    Raises:
        HTTPException: 422 where the mask is to be saved, which it is already.
    """
    if request["model"] != PROPOSAL:
        return {}
    if read_save_label(request.get("save_label")):
        raise HTTPException(
            422, f"'{PROPOSAL}' shows what is saved, so there is nothing to save. Leave 'save_label' out, or choose "
            "the task of a structure."
        )  # fmt: skip
    entries: dict[str, Any] = {SAVED_LABEL_KEY: None, SAVED_INFO_KEY: {}, SAVED_WORDS_KEY: ""}
    image = request["image"]
    if is_received(image) or image not in datastore.list_images():
        return entries
    case = datastore._datastore.objects.get(image)
    found = []
    for key in case.labels if case is not None else ():
        tag = str(getattr(key, "value", key))
        # The data store of a DICOMweb server takes the id of a final label for the UID of a series of the PACS.
        path = LocalDatastore.get_label_uri(datastore, image, tag)
        if (tag in (DRAFT, _ORIGINAL) or is_reviewed(tag)) and path and os.path.isfile(path):
            info = LocalDatastore.get_label_info(datastore, image, tag)
            if tag == _ORIGINAL and is_rejected(info):
                continue
            found.append((_saved_at(info, path), tag, path, info))
    if not found:
        return entries
    # Times may be whole seconds; of two that are equal what a person drew counts, and what was submitted most.
    at, tag, path, info = max(found, key=lambda one: (one[0], one[1] != _ORIGINAL, one[1] != DRAFT))
    by = f" by {author}" if (author := author_of(info)) and tag != _ORIGINAL else ""
    made = "a mask that nobody has looked at" if is_proposal(info) else "a mask that a task made before"
    kind = {DRAFT: "the draft", _ORIGINAL: made}.get(tag, f"the label '{tag}'")
    when = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
    worth = f". {predicted}" if tag == _ORIGINAL and (predicted := predicted_dice_in_words(info)) else ""
    words = f"{kind}{by} of {when}{_refused(image, tag, datastore, workflow)}{worth}"
    return {SAVED_LABEL_KEY: path, SAVED_INFO_KEY: info, SAVED_WORDS_KEY: words}


def _refused(image: str, tag: str, datastore: Datastore, workflow: Workflow) -> str:
    """That a label was rejected, by whom and why; empty where it was not."""
    try:
        known = workflow.read(datastore, image)
    except OSError as error:
        logger.warning("A saved mask is shown without its review decision (%s).", type(error).__name__)
        return ""
    label = next((one for one in known.by_image.get(image, ()) if one.tag == tag), None)
    if label is None or state_of(label, known.newest) != REJECTED:
        return ""
    review = known.newest[image, label.id]
    return f", which {review.by or 'a reader'} rejected ({review.comment[:200] or 'without a comment'})"


def _saved_at(info: Mapping[str, Any], path: str) -> float:
    stated = info.get("ts")
    if isinstance(stated, int | float) and not isinstance(stated, bool) and 0 < stated < 1e11:
        return float(stated)
    return os.path.getmtime(path)
