"""The panel's modules: their own tests under Node.js, and their types."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PANEL = HERE.parents[1] / "ohif"


def run(*command: str) -> None:
    """Skip where a program is missing; fail where these tests must run (SAM3D_REQUIRE_NODE=1)."""
    if shutil.which(command[0]) is None:
        missing = f"{command[0]} is not installed (Debian: apt install nodejs node-typescript)"
        if os.environ.get("SAM3D_REQUIRE_NODE") == "1":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_modules_that_know_neither_viewer_nor_server() -> None:
    run("node", "--test", str(HERE))


def test_the_types_in_the_comments_hold() -> None:
    run("tsc", "--project", str(PANEL))


def test_one_module_knows_the_viewer_and_one_the_server() -> None:
    for path in PANEL.rglob("*.mjs"):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(PANEL).as_posix()
        assert "fetch(" not in text or name == "server.mjs"
        assert "cornerstone" not in text.lower() or name in ("viewer.mjs", "geometry.mjs")
