"""Warns of images that MONAI Label cannot tell apart, or cannot find, by their files' names.

MONAI Label 0.8.5 takes the ending out of a file's name, wherever it stands there, to get the image's id
(``monailabel/datastore/local.py:225``). Of two files that differ in their ending alone it serves one and says nothing
of the other (``:593``); one whose ending stands inside its name as well gets an id that leads to no file, or to that of
another image. We know of no upstream issue.
"""

import logging
from collections import Counter
from typing import Any

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore

from lib.host.patches.version_guard import check_host_version

logger = logging.getLogger(__name__)


def report_file_names(datastore: Any) -> tuple[int, int]:
    """Warns of files that nobody will see; without their names, which may be those of patients.

    Args:
        datastore: of the app; of a PACS there is nothing to say.

    Returns:
        How many files have no id of their own, for another has the same name but for the ending; how many cannot be
        found by their id.
    """
    if not isinstance(datastore, LocalDatastore) or isinstance(datastore, DICOMWebDatastore):
        return 0, 0
    check_host_version(__name__)
    files = datastore._list_files(datastore._datastore.image_path(), datastore._extensions)
    ids = {file: datastore._to_id(file) for file in files}
    lost = [file for file, (image, ending) in ids.items() if image + ending != file]
    count = Counter(image for file, (image, _) in ids.items() if file not in lost)
    hidden = sum(times - 1 for times in count.values())
    if hidden:
        logger.warning(
            "Files of the folder of images that are not served, because others have their names but for the ending "
            "(.nii, .nii.gz, ...): %d. Rename or remove them, and start again.",
            hidden,
        )
    if lost:
        logger.warning(
            "Files of the folder of images that are not served, because the ending stands inside their names as well: "
            "%d. Rename them, and start again.",
            len(lost),
        )
    return hidden, len(lost)
