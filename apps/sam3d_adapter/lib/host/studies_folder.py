"""Patches: files of the studies folder that are missed, served by mistake, or left out without a word.

MONAI Label 0.8.5 looks at its folder when a file is made or deleted there, not when one is renamed or moved within it
(``monailabel/datastore/local.py:164``), nor at the labels of a tag that is new. It serves whatever has one of its
endings: ``._a.nii.gz`` of macOS, half a copy, ``report.xml``; and says nothing of the rest. It takes the ending out of
a file's name, wherever it stands there, to get the image's id (``:225``): of two files that differ in their ending
alone it serves one (``:593``), and one whose ending stands inside its name as well gets an id that leads to no file. We
know of no upstream issue.
"""

import contextlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore

from lib.annotations.patients import MANIFESTS, TABLE
from lib.host.patches.version_guard import check_host_version

logger = logging.getLogger(__name__)

MOST_LISTED = 200
_TEMPORARY = re.compile(
    r"\.(partial|part|filepart|crdownload|tmp|temp|swp)(\.nii|\.nii\.gz|\.nrrd)?$|~$", re.IGNORECASE
)
_NOT_READ = {"*.jpg", "*.png", "*.tif", "*.svs", "*.xml"}
"""Patterns of MONAI Label's for pathology."""
_OWN = {"datastore_v2.json", ".lock", TABLE, *MANIFESTS}

HIDDEN = "a hidden or temporary file, or a copy that is not complete; rename it if it is an image"
ENDING = "its ending is none of {}; convert it"
CAPITALS = "its ending has capital letters; write it in small ones"
DICOM_FILE = "a DICOM file; convert its series to NIfTI (dcm2niix), or start the server on a DICOMweb server"
DICOM_FOLDER = (
    "a folder of DICOM files; convert each series to NIfTI (dcm2niix), or start the server on a DICOMweb server"
)
FOLDER = "a sub-folder; only files directly in the studies folder are served"
TWICE = "another file has its name but for the ending; rename or remove one"
INSIDE = "its ending stands inside its name as well; rename it"
NO_IMAGE = "there is no image of this name"


@dataclass(frozen=True)
class NotServed:
    """A file or folder that is not served.

    Attributes:
        name: relative to the studies folder.
        reason: why, and what to do.
    """

    name: str
    reason: str


def is_temporary(name: str) -> bool:
    """Whether a file's name is that of a hidden file, a temporary one, or a copy that is not complete."""
    return name.startswith((".", "~")) or bool(_TEMPORARY.search(name))


def watch_folder(datastore: Any) -> Any:
    """The data store; one on a folder from now on follows renamed and moved files, and serves no temporary ones.

    Args:
        datastore: as MONAI Label made it; a PACS has no file names.
    """
    if not _is_folder(datastore):
        return datastore
    check_host_version(__name__)
    datastore._extensions = [pattern for pattern in datastore._extensions if pattern not in _NOT_READ]
    list_files = datastore._list_files

    def list_served(path: str, patterns: Any) -> dict[str, str]:
        return {name: file for name, file in list_files(path, patterns).items() if not is_temporary(name)}

    datastore._list_files = list_served
    objects = datastore._datastore.objects
    names = {image: image + entry.image.ext for image, entry in objects.items()}
    if hidden := [image for image, name in names.items() if is_temporary(name) or f"*{Path(name).suffix}" in _NOT_READ]:
        for image in hidden:
            del objects[image]
        # A folder that cannot be written to is served all the same.
        with contextlib.suppress(OSError):
            datastore._update_datastore_file()
    if hasattr(datastore, "_handler"):
        labels = os.path.join(datastore._datastore.label_path(None), "*")
        datastore._handler._patterns += [os.path.join(labels, pattern) for pattern in datastore._extensions]
        datastore._handler.on_moved = _moved(datastore)
    return datastore


def _moved(datastore: Any) -> Callable[[Any], None]:
    def on_moved(event: Any) -> None:
        if event.dest_path == datastore._datastore_config_path:
            datastore._init_from_datastore_file()  # another server has written the index
        else:
            datastore._on_any_event(event)

    return on_moved


def not_served(datastore: Any) -> list[NotServed]:
    """What lies in the studies folder and is not served, sorted by name; nothing for a PACS.

    Args:
        datastore: of the app.

    Raises:
        OSError: the folder cannot be read.
    """
    if not _is_folder(datastore):
        return []
    images, labels = Path(datastore._datastore.image_path()), Path(datastore._datastore.label_path(None))
    found = list(_of_images(datastore, images, labels))
    ids = set(datastore._datastore.objects)
    for tag in sorted(_folders(labels)):
        found += _of_labels(datastore, tag, f"{labels.name}/{tag.name}/", ids)
    return sorted(found, key=lambda one: one.name)


def report_not_served(datastore: Any) -> Counter[str]:
    """Warns of what is not served; by reason, for a file's name may be that of a patient.

    Args:
        datastore: of the app.

    Returns:
        Number of files by reason.
    """
    try:
        count = Counter(one.reason for one in not_served(datastore))
    except OSError:
        logger.warning("The studies folder cannot be read.", exc_info=True)
        return Counter()
    for reason, number in count.items():
        logger.warning("Files of the studies folder that are not served: %d, each %s.", number, reason)
    if count:
        logger.warning("GET /info/ names them under not_served.")
    return count


def listed_not_served(datastore: Any) -> Callable[[], dict[str, Any]]:
    """A function that gives what ``/info`` says; it looks again only when a folder has changed.

    Args:
        datastore: of the app.
    """
    known: list[Any] = [None, {}]

    def listed() -> dict[str, Any]:
        try:
            state = _state(datastore)
            if known[0] != state:
                found = not_served(datastore)
                entries = [{"file": one.name, "reason": one.reason} for one in found[:MOST_LISTED]]
                known[:] = state, {"not_served": entries, "not_served_count": len(found)}
        except OSError:
            logger.warning("The studies folder cannot be read.", exc_info=True)
            return {}
        return dict(known[1])

    return listed


def _is_folder(datastore: Any) -> bool:
    return isinstance(datastore, LocalDatastore) and not isinstance(datastore, DICOMWebDatastore)


def _state(datastore: Any) -> Any:
    """Changes whenever a file is made, removed or renamed in a folder of images or labels."""
    if not _is_folder(datastore):
        return ()
    images, labels = Path(datastore._datastore.image_path()), Path(datastore._datastore.label_path(None))
    times = [(str(folder), folder.stat().st_mtime_ns) for folder in (images, labels, *_folders(labels))]
    return times, {(image, entry.image.ext) for image, entry in datastore._datastore.objects.items()}


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.is_dir() and not is_temporary(entry.name)]


def _of_images(datastore: Any, images: Path, labels: Path) -> Iterator[NotServed]:
    served = {image: entry.image.ext for image, entry in datastore._datastore.objects.items()}
    for entry in sorted(images.iterdir()):
        if entry.name in _OWN or entry == labels or (entry.is_dir() and is_temporary(entry.name)):
            continue
        if entry.is_dir():
            yield NotServed(entry.name, DICOM_FOLDER if _has_dicom(entry) else FOLDER)
        elif reason := _reason(datastore, entry):
            yield NotServed(entry.name, reason)
        else:
            image, ending = datastore._to_id(entry.name)
            if image + ending != entry.name:
                yield NotServed(entry.name, INSIDE)
            elif served.get(image, ending) != ending:
                yield NotServed(entry.name, TWICE)


def _of_labels(datastore: Any, folder: Path, prefix: str, ids: set[str]) -> Iterator[NotServed]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            continue
        if reason := _reason(datastore, entry):
            yield NotServed(prefix + entry.name, reason)
            continue
        image, ending = datastore._to_id(entry.name)
        kept = datastore._datastore.label(image, folder.name)
        if image not in ids:
            yield NotServed(prefix + entry.name, NO_IMAGE)
        elif kept is not None and kept.ext != ending:
            yield NotServed(prefix + entry.name, TWICE)


def _reason(datastore: Any, file: Path) -> str:
    """Why a file is not served by its name alone; "" if it may be."""
    endings = tuple(pattern.removeprefix("*") for pattern in datastore._extensions)
    if is_temporary(file.name):
        return HIDDEN
    if file.name.endswith(endings):
        return ""
    if file.name.lower().endswith(endings):
        return CAPITALS
    return DICOM_FILE if _is_dicom(file) else ENDING.format(", ".join(endings))


def _has_dicom(folder: Path) -> bool:
    try:
        files = (Path(root) / name for root, _, names in os.walk(folder) for name in sorted(names))
        first = next((file for file in files if not is_temporary(file.name)), None)
    except OSError:
        return False
    return first is not None and _is_dicom(first)


def _is_dicom(file: Path) -> bool:
    if file.name.lower().endswith((".dcm", ".ima", ".dicom")):
        return True
    try:
        with file.open("rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except OSError:
        return False
