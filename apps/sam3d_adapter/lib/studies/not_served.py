"""Which files of a folder of images are not served, and why."""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lib.studies.folder import StudiesFolder
from lib.studies.index import NAME
from lib.studies.listing import is_ending_inside, is_temporary

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
        name: relative to the folder of images.
        reason: why, and what to do.
    """

    name: str
    reason: str


def not_served(studies: StudiesFolder, others: Collection[str] = ()) -> list[NotServed]:
    """What lies in a folder of images and is not served, sorted by name.

    Args:
        studies: the folder.
        others: names of files that belong there and are no images.

    Raises:
        OSError: the folder cannot be read.
    """
    images, labels, objects = studies.images, studies.labels, studies.index()["objects"]
    own = {labels.name, *others} if labels.parent == images else set(others)
    served = {image: case["image"]["ext"] for image, case in objects.items()}
    found = [*_folders(images, own), *_files(studies, images, own, "", served)]
    for tag in sorted(entry.name for entry in os.scandir(labels) if entry.is_dir() and not is_temporary(entry.name)):
        kept = {image: case["labels"].get(tag, {}).get("ext") for image, case in objects.items()}
        found += _files(studies, labels / tag, (), f"{labels.name}/{tag}/", kept, missing=NO_IMAGE)
    return sorted(found, key=lambda one: one.name)


def _folders(images: Path, own: Collection[str]) -> Iterator[NotServed]:
    for entry in images.iterdir():
        if entry.is_dir() and entry.name not in own and not is_temporary(entry.name):
            yield NotServed(entry.name, DICOM_FOLDER if _has_dicom(entry) else FOLDER)


def _files(
    studies: StudiesFolder,
    folder: Path,
    own: Collection[str],
    prefix: str,
    served: Mapping[str, str | None],
    missing: str = "",
) -> Iterator[NotServed]:
    for entry in folder.iterdir():
        is_index = entry.name == ".lock" or entry.name.startswith(f"{Path(NAME).stem}.")
        if entry.is_dir() or is_index or entry.name in own:
            continue
        ending = next((ending for ending in studies.endings if entry.name.endswith(ending)), "")
        stem = entry.name.removesuffix(ending)
        if reason := _reason(entry, ending, studies.endings):
            yield NotServed(prefix + entry.name, reason)
        elif is_ending_inside(stem, ending):
            yield NotServed(prefix + entry.name, INSIDE)
        elif stem in served and served[stem] != ending:
            yield NotServed(prefix + entry.name, TWICE)
        elif stem not in served and missing:
            yield NotServed(prefix + entry.name, missing)


def _reason(file: Path, ending: str, endings: Collection[str]) -> str:
    """Why a file is not served by its name alone; "" if it may be."""
    if is_temporary(file.name):
        return HIDDEN
    if ending:
        return ""
    if file.name.lower().endswith(tuple(endings)):
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
