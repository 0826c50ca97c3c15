"""The program ``sam3d`` as users start it: a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.server import APP_DIR

REPOSITORY = APP_DIR.parents[1]


def sam3d(
    *arguments: object,
    app: Path = APP_DIR,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    launcher: Sequence[str] = (),
    timeout_s: float = 300.0,
) -> subprocess.CompletedProcess[str]:
    """One command that ended.

    Args:
        arguments: behind ``sam3d``.
        app: the app folder.
        cwd: where the user stands.
        env: environment variables on top of those of the tests.
        launcher: module and arguments of Python that start the program, such as those of torchrun.
        timeout_s: seconds.
    """
    command = [sys.executable, *launcher, "-m", "sam3d", "--app", str(app), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | (env or {})
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s)
