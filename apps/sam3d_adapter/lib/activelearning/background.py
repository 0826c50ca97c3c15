"""Scoring in a process beside the server, which MONAI Label runs as it runs trainings and batches."""

import sys

from monailabel.utils.async_tasks.utils import processes, run_background_task

COVERAGE = "coverage"
"""Name of the scoring method: ``POST /scoring/coverage`` begins it, ``GET /scoring/`` says how it stands."""


def score_beside_server() -> bool:
    """Begins to score; False where a scoring runs already, or where this process is no server."""
    if "monailabel.app" not in sys.modules or processes("scoring"):
        return False
    run_background_task({"method": COVERAGE}, "scoring")
    return True
