"""What killed trainings left half written; the registry sweeps only what it writes itself."""

from pathlib import Path

from lib.files.folders import remove_leftovers
from lib.learning.version_page import PAGE


def sweep_training(folder: Path) -> None:
    """Removes it; only for the holder of the training's lock, who alone writes these files.

    Args:
        folder: of the preset and size.
    """
    left = [*folder.glob("progress.json.*.partial"), *folder.glob(f"{PAGE}.*.partial")]
    # ``holds`` is written with the lock of the registry.
    left += [path for path in folder.glob("runs/*/*.partial") if not path.name.startswith("holds.")]
    remove_leftovers(left)
