"""What lies in a folder of images, and an index brought in line with it."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.studies.entries import Entry
from lib.studies.index import Index

_TEMPORARY = re.compile(
    r"\.(partial|part|filepart|crdownload|tmp|temp|swp)(\.nii|\.nii\.gz|\.nrrd)?$|~$", re.IGNORECASE
)


def is_temporary(name: str) -> bool:
    """Whether a file's name is that of a hidden file, a temporary one, or a copy that is not complete."""
    return name.startswith((".", "~")) or bool(_TEMPORARY.search(name))


def is_ending_inside(stem: str, ending: str) -> bool:
    """Whether MONAI Label cannot find a file, because its ending stands inside its name as well."""
    return ending in stem


@dataclass(frozen=True)
class Listing:
    """Files by the id of their image.

    Attributes:
        images: id -> endings; more than one where files differ in nothing else. The first is served.
        labels: tag -> id -> endings, likewise.
    """

    images: dict[str, list[str]]
    labels: dict[str, dict[str, list[str]]] = field(default_factory=dict)


def list_folder(images: Path, labels: Path, endings: Sequence[str]) -> Listing:
    """Lists images and labels; what `is_temporary` is none.

    Args:
        images: the folder of images.
        labels: that of labels, with a folder for each tag; need not exist.
        endings: of images and labels; of two files of one id, the one with the ending that comes first is served.

    Raises:
        OSError: the folder of images cannot be listed.
    """
    found = _files(images, endings)
    try:
        tags = sorted(entry.name for entry in os.scandir(labels) if entry.is_dir() and not is_temporary(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        tags = []
    return Listing(found, {tag: _files(labels / tag, endings) for tag in tags})


def _files(folder: Path, endings: Sequence[str]) -> dict[str, list[str]]:
    with os.scandir(folder) as entries:
        # Of links, what they lead to.
        names = sorted(entry.name for entry in entries if not is_temporary(entry.name) and entry.is_file())
    found: dict[str, list[str]] = {}
    for ending in endings:
        for name in names:
            stem = name.removesuffix(ending)
            if name.endswith(ending) and stem and not is_ending_inside(stem, ending):
                found.setdefault(stem, []).append(ending)
    return found


@dataclass(frozen=True)
class Reconciled:
    """An index that fits a folder.

    Attributes:
        index: it.
        added: images and labels that it did not have.
        dropped: those of it that are not there.
    """

    index: Index
    added: int
    dropped: int

    @property
    def is_changed(self) -> bool:
        """Whether it differs from the one before."""
        return bool(self.added or self.dropped)


def reconcile(
    index: Index,
    listing: Listing,
    image_entry: Callable[[str, str], Entry],
    label_entry: Callable[[str, str, Sequence[str]], Entry],
) -> Reconciled:
    """Adds to an index what it lacks, and takes from it what is not there.

    Args:
        index: stays as it is.
        listing: of the folder.
        image_entry: id and ending -> the entry of an image that is new to the index.
        label_entry: id, tag and endings -> the entry of a label that is new to it.
    """
    objects: dict[str, Any] = {}
    added = dropped = 0
    before = index["objects"]
    # In the order of the index, then new ones; clients show them so.
    for name in [*(name for name in before if name in listing.images), *sorted(listing.images.keys() - before.keys())]:
        case, endings = before.get(name), listing.images[name]
        if case is None or case["image"]["ext"] not in endings:
            image, added = image_entry(name, endings[0]), added + 1
        else:
            image = case["image"]
        labels: dict[str, Entry] = {}
        known = case["labels"] if case else {}
        for tag, files in listing.labels.items():
            if name not in files:
                continue
            if tag in known and known[tag]["ext"] in files[name]:
                labels[tag] = known[tag]
            else:
                labels[tag], added = label_entry(name, tag, files[name]), added + 1
        dropped += len(known.keys() - labels.keys())
        objects[name] = {"image": image, "labels": labels}
    dropped += len(before.keys() - objects.keys())
    return Reconciled(index | {"objects": objects}, added, dropped)
