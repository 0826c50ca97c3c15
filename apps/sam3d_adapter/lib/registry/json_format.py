"""The JSON files of a registry: each is one line and states its format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.registry.errors import DamagedFile, NewerFormat, RegistryError

FORMAT = 2
"""Of every JSON file and of the folders. Format 1 was one flat file per preset; see `lib.registry.upgrade`."""


def to_json(values: Mapping[str, Any]) -> bytes:
    """One line of JSON that includes the format.

    Raises:
        RegistryError: JSON cannot hold a value, such as NaN.
    """
    try:
        return json.dumps({"format": FORMAT, **values}, allow_nan=False, ensure_ascii=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise RegistryError(
            f"What is to be kept of a version is no plain JSON ({error}). Leave out or replace what is not finite."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `to_json` wrote.

    Raises:
        DamagedFile: it is something else.
        NewerFormat: a later release wrote it.
        OSError: it is not there, or cannot be read.
    """
    return parse_json(path.read_bytes(), path.name)


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """Parses what `to_json` made.

    Args:
        content: the text.
        name: of the file, for messages.

    Raises:
        DamagedFile: it is something else.
        NewerFormat: a later release wrote it.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{name} is no JSON: it is damaged. Restore it from a backup, or remove it.") from error
    found = values.get("format") if isinstance(values, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise NewerFormat(
            f"{name} has format {found}; this release knows formats up to {FORMAT}. A later release of the app wrote "
            "it: use that release, or another --conf learning_dir."
        )
    if found != FORMAT:
        raise DamagedFile(f"{name} has format {found!r}, expected {FORMAT}: it is no file of this registry.")
    return {key: value for key, value in values.items() if key != "format"}
