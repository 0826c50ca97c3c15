"""What every reader of weights raises, and the look at a file before it is read."""

from pathlib import Path


class CheckpointError(ValueError):
    """A file that cannot be loaded, with what was expected and found, and what to do."""


def require_file(path: Path, expected: str) -> None:
    """Look whether there is a file to read at all.

    Args:
        path: The file.
        expected: What it should be, for the message.

    Raises:
        CheckpointError: It is absent, a folder, empty, or may not be read.
    """
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder. Expected {expected}; give the file itself.")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file. Expected {expected}.") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}). Expected {expected}.") from error
    if empty:
        raise CheckpointError(f"{path}: is empty. Expected {expected}. Copy or download it again.")
