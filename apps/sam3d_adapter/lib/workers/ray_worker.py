"""What runs in the process of a worker of Ray."""

import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.version import __version__

_PACKAGES = ("torch", "numpy", "scipy", "monai")


def release(code: Path) -> dict[str, str]:
    """What must be the same on all machines, so that a case has the same result on each.

    Args:
        code: folder with ``lib``.
    """
    digest = hashlib.sha256()
    for file in sorted((code / "lib").rglob("*.py")):
        digest.update(file.read_bytes())
    app = {"sam3d_adapter": f"{__version__} ({digest.hexdigest()[:12]})"}
    return app | {name: importlib.metadata.version(name) for name in _PACKAGES}


def worker_class() -> type:
    """Made here, so that Ray sends it by value: a worker finds ``lib`` only when it knows where."""

    class CaseWorker:
        def __init__(self, folders: tuple[str, ...], wanted: dict[str, str], open_tool: bytes) -> None:
            self._folders, self._wanted, self._open_tool = folders, wanted, open_tool

        def start(self) -> str | None:
            """Opens the tool; why this machine cannot be used, or None."""
            import os
            import pickle
            import socket
            import sys
            from pathlib import Path

            os.nice(max(0, 10 - os.nice(0)))  # users' clicks come first
            machine = f"The workers on {socket.gethostname()} cannot be used:"
            for folder in self._folders:
                if not Path(folder).is_dir():
                    return f"{machine} there is no folder {folder}."
            sys.path.insert(0, self._folders[0])
            # Broad: whatever is wrong with a machine, the others go on.
            try:
                from lib.workers.ray_worker import release

                found = release(Path(self._folders[0]))
                other = [
                    f"{name} {found[name]} in place of {of}" for name, of in self._wanted.items() if found[name] != of
                ]
                if other:
                    return f"{machine} they have {', '.join(other)}."
                self._tool: Any = pickle.loads(self._open_tool)()
            except Exception as error:
                return f"{machine} {' '.join(str(error).split()) or type(error).__name__}"
            return None

        def work(self, do: Callable[[Any, Any], Any], case: Any) -> tuple[Any, Exception | None]:
            """The result of a case, or what was raised."""
            import pickle
            import traceback

            try:
                return do(self._tool, case), None
            except Exception as error:
                error.add_note("".join(traceback.format_exception(error)))
                # Broad: an exception that cannot be sent must not cost more than its own text.
                try:
                    pickle.loads(pickle.dumps(error))
                except Exception:
                    return None, RuntimeError(f"{type(error).__name__}: {error}")
                return None, error

    return CaseWorker
