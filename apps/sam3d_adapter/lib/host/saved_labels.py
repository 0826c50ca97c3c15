"""The data store's final labels, with what is known of them and their images."""

from pathlib import Path

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from lib.annotations.submitted import SavedLabel


def saved_labels(datastore: LocalDatastore) -> list[SavedLabel]:
    """The final labels that were saved through this server.

    Of a PACS, too, these are the files as they were sent: as DICOM SEG they are cut to some slices and numbered anew
    (``monailabel/datastore/utils/convert.py:94``). MONAI Label's own ``datalist()`` is not asked, because it fetches
    every segmentation of the PACS, whoever made it, takes the one that comes last, and deletes what it fetched before
    (``monailabel/datastore/dicom.py:234``).

    Args:
        datastore: of the app; a folder or a DICOMweb server.
    """
    tag = DefaultLabelTag.FINAL.value
    # Of a PACS the index of the local cache: its own methods ask for DICOM SEG series by their UID.
    listed = LocalDatastore.get_labeled_images(datastore)
    found = []
    for image_id in sorted(listed):
        # Of a PACS it is in the cache, from when the label was saved, and can be read while the PACS is out of reach.
        image = LocalDatastore.get_image_uri(datastore, image_id)
        label = LocalDatastore.get_label_uri(datastore, image_id, tag)
        found.append(
            SavedLabel(
                image_id=image_id,
                image=Path(image),
                label=Path(label),
                info=datastore.get_label_info(image_id, tag),
                image_info=datastore.get_image_info(image_id),
            )
        )
    return found


def studies_folder(datastore: LocalDatastore) -> Path | None:
    """Where tables beside the images are looked for; None for a PACS."""
    return None if isinstance(datastore, DICOMWebDatastore) else Path(datastore._datastore.image_path())
