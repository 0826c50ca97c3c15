"""A set of images and labels -> submitted labels in a folder of studies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.annotations.label_check import LabelRefused, check_label
from lib.annotations.submitted import Skipped, SubmittedError, read_label
from lib.files.checksums import file_sha256
from lib.label_sets.read_set import SetCase
from lib.studies.folder import StudiesFolder, Taken
from lib.studies.index import is_plain_name
from lib.studies.label_changes import By
from lib.volumes.memory import MemoryShortage
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError
from lib.workflow.reviews import FINAL


@dataclass
class TakenIn:
    """What became of the cases of a set.

    Attributes:
        new: image ids whose label was submitted.
        known: image ids that had this very label already.
        skipped: cases that were not taken, and why.
        notes: sentences on how labels were read.
    """

    new: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _NotTaken(ValueError):
    """Why a case is not taken; completes the sentence "... is left out: "."""


def take_in(
    cases: list[SetCase], folder: StudiesFolder, by: By, key: Mapping[str, Mapping[str, Any]] | None = None
) -> TakenIn:
    """Adds images, and submits their labels; each case as a whole. What is there already stays, so it can be repeated.

    Args:
        cases: of the set.
        folder: of studies.
        by: who does it.
        key: from `lib.label_sets.read_set.read_key`: labels that were changed since the export are submitted as
            corrections of those that were exported, and nothing is added.

    Raises:
        StudiesError: the folder is away, or another process keeps it locked.
        OSError: the disk is full; the cases before are there.
    """
    done = TakenIn()
    for case in cases:
        try:
            said = _take(case, folder, by) if key is None else _take_home(case, folder, by, key)
        except (_NotTaken, Taken, LabelRefused, SubmittedError, ImageError, MemoryShortage) as error:
            done.skipped.append(Skipped(case.name, str(error).rstrip(".")))
            continue
        (done.known if said is None else done.new).append(case.name)
        done.notes += [f"The label of {case.name}: {sentence}" for sentence in said or ()]
    return done


def _take(case: SetCase, folder: StudiesFolder, by: By) -> list[str] | None:
    """What is to be said of the label; None where it was there."""
    if case.problem:
        raise _NotTaken(case.problem)
    if not is_plain_name(case.name) or case.name.startswith("."):
        raise _NotTaken("its name cannot be that of an image")
    there = folder.index()["objects"].get(case.name)
    if there is not None and there["image"]["ext"] != case.ending:
        raise _NotTaken("there is another image of this name")
    if there is not None and FINAL in there["labels"]:
        note = folder.note(case.name, FINAL)
        if note is not None and note["sha256"] == file_sha256(case.label):
            return None
        raise _NotTaken("its image has a submitted label already; remove that one first, or correct it in a viewer")
    read_volume(case.image)
    info = _label_info(case)
    said = check_label(case.label, case.image, info)
    folder.add_image(case.name, case.ending, case.image, _image_info(case))
    folder.save_label(case.name, FINAL, _ending(case.label, folder), case.label, info, by)
    return said


def _take_home(case: SetCase, folder: StudiesFolder, by: By, key: Mapping[str, Mapping[str, Any]]) -> list[str] | None:
    """What is to be said of a correction; None where the label is as it was exported."""
    if case.problem:
        raise _NotTaken(case.problem)
    if case.name not in key:
        raise _NotTaken("the key does not name it")
    of = key[case.name]
    image, tag = str(of["image"]), str(of["tag"])
    there = folder.index()["objects"].get(image)
    path = folder.images / f"{image}{there['image']['ext']}" if there is not None else None
    if path is None or file_sha256(path) != of["image_sha256"]:
        raise _NotTaken(f"its image {image} was removed or replaced since the export")
    note = folder.note(image, tag) or {}
    if case.is_as_exported or note.get("sha256") == file_sha256(case.label):
        return None
    if note.get("sha256") != of["label_sha256"]:
        raise _NotTaken(f"the label of {image} was changed here since the export; compare them in a viewer")
    info = {**_label_info(case), "parent": of["label"]}
    said = check_label(case.label, path, info)
    folder.save_label(image, tag, _ending(case.label, folder), case.label, info, by)
    return said


def _label_info(case: SetCase) -> dict[str, Any]:
    """Names of what is drawn, and the reader."""
    info: dict[str, Any] = {"author": case.drawn_by} if case.drawn_by else {}
    if not case.names:
        return info
    values = read_label(case.label).segments()
    if unnamed := [str(value) for value in values if value not in case.names]:
        raise _NotTaken(f"its voxel values {', '.join(unnamed[:8])} have no name in the set")
    return info | {"label_info": [{"name": case.names[value], "idx": value} for value in values]}


def _image_info(case: SetCase) -> Mapping[str, str]:
    told = {"PatientID": case.patient, "Modality": case.modality or ""}
    return {key: text for key, text in told.items() if text}


def _ending(label: Path, folder: StudiesFolder) -> str:
    ending = next((ending for ending in folder.endings if label.name.endswith(ending)), None)
    if ending is None:
        raise _NotTaken(f"{label.name} is of a type that is not read; {', '.join(folder.endings)} are expected")
    return ending
