"""The app folder that a command works in: presets, weights, and what the server writes (``model/``, ``logs/``)."""

import os
import tempfile
from pathlib import Path

from sam3d import APP_DIR

_WHOLE = ("main.py", "lib")
# Folders of links, so that users can put their own files beside those of the package.
_MIXED = ("configs", "weights")


class AppFolderError(ValueError):
    """A folder that cannot be used as the app folder, with what to do."""


def default_app_folder() -> Path:
    """The app itself in a checkout; for an installed package ``~/.local/share/sam3d_adapter`` (``$XDG_DATA_HOME``)."""
    if APP_DIR.parent.name != "sam3d":
        return APP_DIR
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "sam3d_adapter"


def app_folder(given: Path | None = None) -> Path:
    """The app folder, made if it is not there.

    A folder with a ``main.py`` of its own is an app and stays as it is. A new one gets links to the code, presets and
    weights of this package, so that an upgrade takes effect; links that lead nowhere any more are removed. Files of the
    user are kept.

    Args:
        given: the user's choice; None for the default.

    Raises:
        AppFolderError: the folder holds other things, or cannot be written.
    """
    folder = (given or default_app_folder()).expanduser().absolute()
    main = folder / "main.py"
    if main.is_file() and not main.is_symlink():
        return folder
    try:
        if not main.is_symlink() and folder.is_dir() and any(folder.iterdir()):
            raise AppFolderError(
                f"{folder} holds no MONAI Label app: main.py is missing. Give a folder with an app, or a new one."
            )
        _link_app(folder)
    except OSError as error:
        raise AppFolderError(
            f"The app folder {folder} cannot be made: {error}. Name another one with --app or $SAM3D_APP."
        ) from error
    return folder


def _link_app(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in _MIXED:
        (folder / name).mkdir(exist_ok=True)
        for path in (folder / name).iterdir():
            if path.is_symlink() and not path.exists():
                path.unlink(missing_ok=True)
        for source in (APP_DIR / name).iterdir():
            _link(folder / name / source.name, source)
    # main.py last: with it, the folder counts as an app.
    for name in reversed(_WHOLE):
        _link(folder / name, APP_DIR / name)


def _link(path: Path, source: Path) -> None:
    if path.is_symlink() and path.readlink() == source:
        return
    if path.exists() and not path.is_symlink():
        return
    # Commands may run at the same time, so that a link is never missing for a moment.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".link") as folder:
        new = Path(folder) / path.name
        new.symlink_to(source)
        os.replace(new, path)
