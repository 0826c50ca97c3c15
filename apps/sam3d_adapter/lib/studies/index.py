"""The index of a folder of images, ``datastore_v2.json`` as MONAI Label writes it: read strictly, written whole."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from lib.files.atomic_write import write_atomically

NAME = "datastore_v2.json"

Index = dict[str, Any]
"""``name``, ``description``, ``images_dir``, ``labels_dir``; and ``objects``: by image id ``image`` and, by tag,
``labels``, each an ``ext`` and an ``info``."""


class IndexDamaged(ValueError):
    """The file is no index; the text says what is wrong with it."""


def empty_index() -> Index:
    """That of a folder without images."""
    return {
        "name": "new-dataset",
        "description": "New Dataset",
        "images_dir": ".",
        "labels_dir": "labels",
        "objects": {},
    }


def read_index(path: Path) -> Index | None:
    """The index, or None where there is no such file.

    Raises:
        IndexDamaged: it cannot be used.
        OSError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise IndexDamaged("it is a folder") from error
    return parse_index(content)


def parse_index(content: bytes) -> Index:
    """The index in a file's content.

    Raises:
        IndexDamaged: it is no index, or holds what cannot be sent to a client.
    """
    if not content.strip():
        raise IndexDamaged("it is empty")
    try:
        index = json.loads(content.decode("utf-8"))
        # NaN, infinities and halves of characters would come back as an error of every list.
        json.dumps(index, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise IndexDamaged(f"it cannot be read as JSON ({type(error).__name__})") from error
    if problem := _problem(index):
        raise IndexDamaged(problem)
    return index | {key: value for key, value in empty_index().items() if key not in index}


def write_index(path: Path, index: Index) -> None:
    """Replaces the file; if that fails, the one before stays."""
    write_atomically(path, index_bytes(index))


def index_bytes(index: Index) -> bytes:
    """The content of the file."""
    return json.dumps(index, indent=2, default=str).encode()


def is_plain_name(name: str) -> bool:
    """Whether a text can be the name of a file or folder, and leads nowhere else."""
    return name not in ("", ".", "..") and not any(character in name for character in "/\x00")


def _problem(index: Any) -> str | None:
    if not isinstance(index, dict):
        return "it is no JSON object"
    if not all(isinstance(index.get(key, ""), str) for key in ("name", "description", "images_dir", "labels_dir")):
        return "its head is of the wrong kind"
    if not all(_is_inside(index.get(key, "")) for key in ("images_dir", "labels_dir")):
        return "it names folders of elsewhere"
    objects = index.get("objects")
    if not isinstance(objects, dict) or not all(_is_case(name, case) for name, case in objects.items()):
        return "its entries are of the wrong kind"
    return None


def _is_inside(folder: str) -> bool:
    path = PurePosixPath(folder)
    return not path.is_absolute() and ".." not in path.parts and "\x00" not in folder


def _is_case(name: str, case: Any) -> bool:
    if not (is_plain_name(name) and isinstance(case, dict) and _is_entry(case.get("image"))):
        return False
    labels = case.setdefault("labels", {})
    return isinstance(labels, dict) and all(is_plain_name(tag) and _is_entry(label) for tag, label in labels.items())


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    ext, info = entry.setdefault("ext", ""), entry.setdefault("info", {})
    return isinstance(ext, str) and not any(character in ext for character in "/\x00") and isinstance(info, dict)
