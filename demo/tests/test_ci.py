"""The time limit of the long suites in `.ci/run`: a suite is never green because none of it ran."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo import REPOSITORY


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n", encoding="utf-8")
    return tmp_path


def run(suite: Path, until: float) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SUITE_UNTIL": str(until), "PYTHONPATH": str(REPOSITORY / ".ci")}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-p", "in_time", "-p", "no:cacheprovider", "--rootdir", str(suite)]
    return subprocess.run(
        [*command, str(suite)], env=environment, cwd=suite, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_suite_runs_within_its_time(suite: Path) -> None:
    done = run(suite, time.time() + 1e6)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_suite_whose_time_is_over_at_its_start_fails(suite: Path) -> None:
    done = run(suite, 4000)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR and "is over before the first test" in done.stderr
