"""Which task a label was made with, and which modality its image has: what decides which presets learn from it.

1. The source tells the modality: DICOM, or a table or manifest beside the images.
2. Otherwise it is that of the task that the label was submitted under: ``model`` in what came with the label, which a
   mask that the server saved itself has.
3. Otherwise it is that of the tasks whose answers became the label: those whose mask is an object of the label voxel by
   voxel; without one, those whose foreground clicks all lie in one object, and whose background clicks do not. Other
   answers were trials, and count for nothing.
4. Otherwise nobody knows it.
"""

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from lib.annotations.patients import MANIFESTS, TABLE
from lib.evaluation.cases import ENDINGS, DataError
from lib.evaluation.manifest import from_manifest
from lib.presets import Preset
from lib.volumes.mask_hash import mask_hash
from lib.volumes.modality import known_modality, source_modality

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """One answer of a task to clicks on an image.

    Attributes:
        preset: name of the task.
        time: seconds since 1970; 0 where the record does not say.
        mask_hash: as `lib.volumes.mask_hash` has it.
        foreground: voxels clicked on as belonging to the structure.
        background: likewise, as not belonging to it.
    """

    preset: str
    time: float = 0.0
    mask_hash: str = ""
    foreground: tuple[tuple[int, ...], ...] = ()
    background: tuple[tuple[int, ...], ...] = ()


def read_answer(record: Mapping[str, Any]) -> Answer:
    """An answer from its record in the audit log; what cannot be read is left empty."""
    request = record.get("request")
    try:
        time = datetime.fromisoformat(str(record.get("time"))).timestamp()
    except ValueError:
        time = 0.0
    clicks = {
        key: tuple(tuple(click) for click in (request.get(key) if isinstance(request, Mapping) else None) or ())
        for key in ("foreground", "background")
    }
    return Answer(str(record.get("preset")), time, str(record.get("mask_hash", "")), **clicks)


def stated_task(info: Mapping[str, Any]) -> str | None:
    """The task that a label says it was made with; None where it does not."""
    entries = info.get("label_info")
    named = (
        [entry.get("model_name") for entry in entries if isinstance(entry, Mapping)]
        if isinstance(entries, list)
        else []
    )
    stated = {str(name) for name in (info.get("model"), *named) if isinstance(name, str) and name}
    return stated.pop() if len(stated) == 1 else None


def tasks_of(answers: Sequence[Answer], objects: np.ndarray, saved_at: float) -> frozenset[str]:
    """Names of the tasks whose answers became a label.

    Args:
        answers: on its image.
        objects: (i, j, k) on the image's grid: 0, or the number of an object.
        saved_at: when the label was saved, seconds since 1970; later answers do not count.
    """
    before = [answer for answer in answers if answer.time <= saved_at]
    if not before:
        return frozenset()
    hashes = {mask_hash(objects == number) for number in np.unique(objects) if number}
    if exact := frozenset(answer.preset for answer in before if answer.mask_hash in hashes):
        return exact
    return frozenset(answer.preset for answer in before if _agrees(answer, objects))


def _agrees(answer: Answer, objects: np.ndarray) -> bool:
    try:
        hit = {int(objects[click]) if min(click) >= 0 else 0 for click in answer.foreground}
        missed = {int(objects[click]) if min(click) >= 0 else 0 for click in answer.background}
    except (IndexError, TypeError, ValueError):
        return False  # clicks on another image that had this id
    return len(hit) == 1 and hit != {0} and not hit & missed


def modality_of_source(image: Path, info: Mapping[str, Any], listed: Mapping[str, str]) -> str | None:
    """The modality that the source of an image tells.

    Args:
        image: the file or folder.
        info: what the data store keeps of the image.
        listed: modalities by image id or file name without ending, of a manifest.
    """
    stated = known_modality(str(info.get("Modality") or ""))
    return stated or source_modality(image) or listed.get(_without_ending(image.name))


def listed_modalities(folder: Path | None) -> dict[str, str]:
    """By image id, the modalities that ``patients.csv`` gives to the images of a folder, or else a manifest."""
    if folder is None:
        return {}
    if (folder / TABLE).is_file():
        # What is wrong with the table stops the training elsewhere: it names the patients.
        text = (folder / TABLE).read_text(encoding="utf-8-sig", errors="replace")
        rows = [
            (str(row.get("image") or ""), str(row.get("modality") or "")) for row in csv.DictReader(text.splitlines())
        ]
        return {_without_ending(image.strip()): found for image, stated in rows if (found := known_modality(stated))}
    path = next(
        (place / name for place in (folder, folder.resolve().parent) for name in MANIFESTS if (place / name).is_file()),
        None,
    )
    if path is None:
        return {}
    try:
        sources = from_manifest(path)
    except DataError as error:
        logger.warning("%s was not used to tell modalities. %s", path.name, error)
        return {}
    here = [source for source in sources if source.image.resolve().parent == folder.resolve()]
    listed = {_without_ending(source.image.name): known_modality(str(source.modality or "")) for source in here}
    return {image: modality for image, modality in listed.items() if modality}


def modality_of_task(task: str, presets: Mapping[str, Preset]) -> str | None:
    """The modality that a task is for; None where its preset does not say, or is not served any more."""
    preset = presets.get(task)
    return preset.modality if preset is not None else None


def _without_ending(name: str) -> str:
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
