"""3D Slicer: its MONAI Label extension's client class, and its scene without windows, a process to talk to."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.server import APP_DIR

EXTENSION = Path(sys.prefix) / "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py"
MISSING = None if find_spec("slicer") and find_spec("trame_slicer") else "3D Slicer's code (slicer-core) is missing."

Place = Sequence[float]


def _extension() -> ModuleType:
    spec = spec_from_file_location("slicer_monailabel_client", EXTENSION)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLIENT = _extension()
"""The extension's own module, as it is installed into 3D Slicer."""


class SlicerProcess:
    """`tests.support.slicer_scene.Scene` in its process; places are RAS mm."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process, self._log = process, log

    def open(self, image: Path) -> list[int]:
        """As `Scene.open`."""
        return self._ask("open", str(image))

    def click(self, kind: str, place: Place) -> list[list[int]]:
        """As `Scene.click`."""
        return self._ask("click", kind, [float(x) for x in place])

    def show(self, mask: Path, names: Sequence[str]) -> list[str]:
        """As `Scene.show`."""
        return self._ask("show", str(mask), list(names))

    def export(self, file: Path, names: Sequence[str]) -> None:
        """As `Scene.export`."""
        self._ask("export", str(file), list(names))

    def picture(self, file: Path, place: Place) -> None:
        """As `Scene.picture`."""
        self._ask("picture", str(file), [float(x) for x in place])

    def _ask(self, *command: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            pytest.fail(f"3D Slicer ended at {command[0]}: {self._log.read_text(errors='replace')[-2000:]}")
        return json.loads(line)


@contextlib.contextmanager
def start_slicer(folder: Path) -> Iterator[SlicerProcess]:
    """A running scene; what it prints is kept in the folder."""
    log = folder / "slicer.log"
    command = [sys.executable, "-m", "tests.support.slicer_scene"]
    with log.open("w") as printed:
        process = subprocess.Popen(
            command, cwd=APP_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, text=True
        )
        try:
            yield SlicerProcess(process, log)
        finally:
            process.kill()
            process.communicate()
