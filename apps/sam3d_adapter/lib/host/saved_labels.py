"""The data store's submitted labels, with what is known of them and their images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore

from lib.annotations.patients import Patient
from lib.annotations.submitted import SavedLabel, SubmittedCase, read_submitted
from lib.host.studies_datastore import tag_text
from lib.workflow.reviews import FINAL, is_reviewed


def saved_labels(datastore: LocalDatastore) -> list[SavedLabel]:
    """The labels that were submitted through this server: final ones, and the versions of MONAILabelReviewer.

    Of a PACS, too, these are the files as they were sent: as DICOM SEG they are cut to some slices and numbered anew
    (``monailabel/datastore/utils/convert.py:94``). MONAI Label's own ``datalist()`` is not asked, because it fetches
    every segmentation of the PACS, whoever made it, takes the one that comes last, and deletes what it fetched before
    (``monailabel/datastore/dicom.py:234``).

    Args:
        datastore: of the app; a folder or a DICOMweb server.
    """
    found = []
    # Of a PACS the index of the local cache: its own methods ask for DICOM SEG series by their UID.
    for image_id, case in sorted(datastore._datastore.objects.items()):
        tags = sorted(tag for key in case.labels if is_reviewed(tag := str(getattr(key, "value", key))))
        for tag in tags if not isinstance(datastore, DICOMWebDatastore) else [FINAL] if FINAL in tags else ():
            # Of a PACS it is in the cache, from when the label was saved, and can be read while that is out of reach.
            image = LocalDatastore.get_image_uri(datastore, image_id)
            label = LocalDatastore.get_label_uri(datastore, image_id, tag)
            found.append(
                SavedLabel(
                    image_id=image_id,
                    image=Path(image),
                    label=Path(label),
                    info=datastore.get_label_info(image_id, tag),
                    image_info=datastore.get_image_info(image_id),
                    tag=tag,
                )
            )
    return found


def labelled_cases(datastore: LocalDatastore) -> Sequence[SubmittedCase]:
    """All that is drawn in the submitted labels, whoever learns it; labels that cannot be read are left out.

    Args:
        datastore: of the app.
    """
    return read_submitted(saved_labels(datastore), None, lambda image, _: Patient(image, "id")).cases


def mask_info(image: str, tag: str, datastore: LocalDatastore) -> dict[str, Any] | None:
    """What is kept of the mask that an image has under a tag; None where it has none."""
    case = datastore._datastore.objects.get(image)
    entries = case.labels.items() if case is not None else ()
    return next((entry.info for key, entry in entries if tag_text(key) == tag), None)


def studies_folder(datastore: LocalDatastore) -> Path | None:
    """Where tables beside the images are looked for; None for a PACS."""
    return None if isinstance(datastore, DICOMWebDatastore) else Path(datastore._datastore.image_path())
