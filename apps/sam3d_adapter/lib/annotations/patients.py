"""The patient that an image shows; splits are by patient."""

import csv
import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.evaluation.cases import DataError
from lib.evaluation.manifest import from_manifest

logger = logging.getLogger(__name__)

TABLE = "patients.csv"
"""Beside the images, with the columns ``image`` and ``patient``."""
MANIFESTS = ("manifest.json", "manifest.csv")
"""As the evaluation reads them; in the folder of the images or the one above."""
_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
# DICOM placeholders for an unknown patient; as one patient, they would all be on one side of the split.
_NOBODY = frozenset({"", "unk", "unknown", "none", "anon", "anonymous", "anonymized", "anonymised", "0"})


class PatientsError(ValueError):
    """Statements about patients contradict one another or cannot be read; a split from them would leak."""


@dataclass(frozen=True)
class Patient:
    """A patient.

    Attributes:
        name: identifies the patient.
        source: of the name, in words.
        is_visible: whether the name is part of an image id, which anyone with access to the folder sees. Other names
            are only kept as keyed hashes.
    """

    name: str
    source: str = field(compare=False)
    is_visible: bool = False


class PatientBook:
    """Finds the patient of each image.

    In this order: DICOM's PatientID, if the data store knows it; ``patients.csv`` beside the images; a manifest of the
    evaluation; the administrator's pattern for image ids; else each image is a patient of its own.

    Args:
        folder: of the images; None where they are in a PACS.
        pattern: a regular expression; its first group, or all of what it finds in the id, is the patient.

    Raises:
        PatientsError: a table, manifest or pattern that cannot be used.
    """

    def __init__(self, folder: Path | None = None, pattern: str | None = None) -> None:
        self._listed, self._source = _listed(folder) if folder is not None else ({}, "")
        try:
            self._pattern = re.compile(pattern) if pattern else None
        except re.error as error:
            raise PatientsError(f"The pattern of patients {pattern!r} is none: {error}. Correct it.") from error
        self._count: Counter[str] = Counter()

    def patient_of(self, image_id: str, image_info: Mapping[str, Any]) -> Patient:
        """The patient of an image.

        Args:
            image_id: of the data store.
            image_info: what the data store keeps of it.
        """
        patient = self._patient_of(image_id, image_info)
        self._count[patient.source] += 1
        return patient

    def report(self) -> str:
        """One sentence on how patients were recognised so far; it is also logged."""
        text = ", ".join(f"{count} by {source}" for source, count in sorted(self._count.items())) or "none yet"
        text = f"Patients were recognised: {text}."
        if self._count[_ITSELF]:
            text += f" Several images of one person may now be on both sides; write {TABLE}, or give patient_pattern."
        logger.info(text)
        return text

    def _patient_of(self, image_id: str, image_info: Mapping[str, Any]) -> Patient:
        known = image_info.get("PatientID")
        if isinstance(known, str) and known.strip().casefold() not in _NOBODY:
            return Patient(known.strip(), "DICOM PatientID")
        if image_id in self._listed:
            return Patient(self._listed[image_id], self._source)
        if self._pattern is not None and (found := self._pattern.search(image_id)):
            name = found[1] if found.re.groups else found[0]
            if name:
                return Patient(name, "patient_pattern", is_visible=True)
        return Patient(image_id, _ITSELF, is_visible=True)


_ITSELF = "nothing but the image's id"


def _listed(folder: Path) -> tuple[dict[str, str], str]:
    table = folder / TABLE
    if table.is_file():
        return _read_table(table), TABLE
    for place in (folder, folder.resolve().parent):
        for name in MANIFESTS:
            if (place / name).is_file():
                return _read_manifest(place / name, folder), name
    return {}, ""


def _read_table(table: Path) -> dict[str, str]:
    try:
        rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PatientsError(f"{table.name} cannot be read: {error}. Save it as CSV in UTF-8.") from error
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        image, patient = (str(row.get(key) or "").strip() for key in ("image", "patient"))
        if not image or not patient:
            raise PatientsError(f"Line {number} of {table.name} lacks 'image' or 'patient'; the first line names both.")
        _add(found, _without_ending(image), patient, table.name)
    return found


def _read_manifest(manifest: Path, folder: Path) -> dict[str, str]:
    try:
        sources = from_manifest(manifest)
    except DataError as error:
        # The manifest may belong to something else; only this list is lost.
        logger.warning("%s was not used to recognise patients. %s", manifest.name, error)
        return {}
    found: dict[str, str] = {}
    for source in sources:
        if source.image.resolve().parent == folder.resolve():
            _add(found, _without_ending(source.image.name), source.patient, manifest.name)
    return found


def _add(found: dict[str, str], image: str, patient: str, file: str) -> None:
    if found.setdefault(image, patient) != patient:
        raise PatientsError(
            f"{file} gives the image {image!r} to two patients, {found[image]!r} and {patient!r}. Leave one of them."
        )


def _without_ending(name: str) -> str:
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
