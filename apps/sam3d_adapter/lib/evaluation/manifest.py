"""What is evaluated, as a manifest lists it: JSON, or a table as spreadsheets save it."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.evaluation.cases import ENDINGS, DataError, Source


def from_manifest(manifest: Path, *, split: str | None = None) -> list[Source]:
    """The cases that a JSON or CSV file lists.

    Each has ``image`` and ``label``, paths against the manifest's folder or the one above it, and may have ``case`` or
    ``id``, ``patient``, ``dataset``, ``modality``, ``split`` and ``label_value``. In JSON they are a list, or one under
    ``cases``.

    Args:
        manifest: the file.
        split: keep only the cases of this split; None for all.

    Raises:
        DataError: not such a file, an entry without its files, or no case at all.
    """
    try:
        entries = _entries(manifest)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"The manifest {manifest} cannot be read: {error}") from error
    sources = [_source(manifest, number, entry) for number, entry in enumerate(entries, start=1)]
    chosen = [source for source in sources if split in (None, source.split)]
    if not chosen:
        splits = sorted({source.split for source in sources if source.split})
        raise DataError(f"{manifest} lists no case" + (f" of split {split!r}; it has {splits}." if split else "."))
    return chosen


def _entries(manifest: Path) -> list[Mapping[str, Any]]:
    text = manifest.read_text(encoding="utf-8-sig")  # spreadsheets put a mark before it
    if manifest.suffix.lower() == ".csv":
        return _rows(text)
    content = json.loads(text)
    entries = content.get("cases") if isinstance(content, Mapping) else content
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError("a list of cases is expected")
    return entries


def _rows(text: str) -> list[Mapping[str, Any]]:
    """Of a CSV file, separated by commas, or as spreadsheets of other countries do it."""
    lines = text.splitlines()
    separator = max(",;\t", key=lines[0].count) if lines else ","
    rows = csv.DictReader(lines, delimiter=separator)
    return [{str(key).strip(): (value or "").strip() for key, value in row.items() if key} for row in rows]


def _source(manifest: Path, number: int, entry: Mapping[str, Any]) -> Source:
    files: list[Path] = []
    for key in ("image", "label"):
        given = entry.get(key)
        if not given:
            raise DataError(f"Entry {number} of {manifest} has no {key!r}.")
        places = [folder / str(given) for folder in (manifest.parent, manifest.resolve().parent.parent)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise DataError(f"Entry {number} of {manifest} names {given}, which is not there.")
        files.append(found)
    name = str(entry.get("case") or entry.get("id") or _without_ending(files[0].name))
    value = entry.get("label_value")
    try:
        value = None if value in (None, "") else _whole(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"Entry {number} of {manifest}: label_value {value!r} is no whole number.") from error
    return Source(
        name=name,
        image=files[0],
        label=files[1],
        patient=str(entry.get("patient") or name),
        dataset=str(entry.get("dataset") or manifest.resolve().parent.name),
        value=value,
        modality=entry.get("modality") or None,
        split=entry.get("split") or None,
    )


def _whole(value: object) -> int:
    number = float(str(value))  # 1.0 is how tables with gaps keep a 1
    if not number.is_integer():
        raise ValueError(f"{value} is not whole")
    return int(number)


def _without_ending(name: str) -> str:
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
