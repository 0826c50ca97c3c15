"""Files that are never half there, and are the same bytes for the same content."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write beside ``path``, moved over it once it is whole and on the disk.

    A reader sees the old file or the new one, never half of one; where writing fails, the old one stays alone.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in the order of its keys.

    The library writes them in an order that changes from run to run, and with them the file's checksum.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, "the same values in another order are no longer"
        file.seek(8)
        file.write(text.ljust(length))
