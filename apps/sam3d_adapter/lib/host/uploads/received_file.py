"""A file that came with a request, on the server's disk while it is looked at: shared by the patches of uploads."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from lib.prompts.reading import short
from lib.volumes.memory import MemoryShortage
from lib.volumes.volume import ImageError


def split_name(name: str | None, suffixes: Sequence[str]) -> tuple[str, str]:
    """Stem and suffix of the name that a client gave a file; the suffix in lower case.

    Args:
        name: with or without folders, of any system.
        suffixes: those expected, the longer of two with one end first. The first is taken where there is no name.

    Raises:
        HTTPException: 422 for others.
    """
    last = (name or suffixes[0]).replace("\\", "/").rpartition("/")[2]
    for suffix in suffixes:
        if last.lower().endswith(suffix):
            return last[: -len(suffix)], suffix
    raise HTTPException(422, f"The file is called {short(name)}; its name must end in {', '.join(suffixes)}.")


@contextmanager
def stored_copy(file: Any, name: str) -> Iterator[Path]:
    """The path of a copy of an uploaded file; what is wrong with its content is answered with 422 or 503.

    Args:
        file: FastAPI's ``UploadFile``; it can be read from its beginning afterwards.
        name: of the copy, with the suffix that says how to read it.

    Raises:
        HTTPException: 422 or 503.
        OSError: it cannot be stored.
    """
    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        path = Path(folder) / name
        file.file.seek(0)
        with path.open("wb") as copy:
            shutil.copyfileobj(file.file, copy)
        file.file.seek(0)
        if not path.stat().st_size:
            raise HTTPException(422, "The file is empty; a volume is expected. Save it once more, then send it again.")
        try:
            yield path
        except ImageError as error:
            raise HTTPException(422, str(error)) from error
        except (MemoryShortage, MemoryError) as error:
            raise HTTPException(503, str(error) or "The memory of the server is short. Try again later.") from error
