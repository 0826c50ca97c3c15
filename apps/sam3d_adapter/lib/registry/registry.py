"""The learning folder of a server, and the versions of each preset in it."""

import threading
from pathlib import Path

from lib.registry.versions import Versions

DEFAULT_LEARNING_DIR = Path("model")
"""Relative to the app folder, where MONAI Label makes this folder anyway."""


class Registry:
    """Hands out the versions of each preset; building it touches no file.

    Args:
        learning_dir: the folder; need not exist.
    """

    def __init__(self, learning_dir: Path) -> None:
        self.learning_dir = learning_dir
        self._handles: dict[tuple[str, str, str], Versions] = {}
        self._lock = threading.Lock()

    def of(self, preset: str, size: str, family: str = "sam3d_adapter") -> Versions:
        """The versions of a preset; always the same object, so that threads share the lock.

        Args:
            preset: its name.
            size: of its network.
            family: of its network.
        """
        with self._lock:
            key = (preset, size, family)
            if key not in self._handles:
                self._handles[key] = Versions(self.learning_dir / preset / size, preset, size, family)
            return self._handles[key]
