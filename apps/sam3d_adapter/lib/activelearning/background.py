"""Scoring in a process beside the server, which MONAI Label runs as it runs trainings and batches."""

import sys

from monailabel.utils.async_tasks.utils import run_background_task, tasks

COVERAGE, PREDICTED_DICE = "coverage", "predicted_dice"
"""Names of the scoring methods: ``POST /scoring/coverage`` begins one, ``GET /scoring/`` says how it stands."""


def score_beside_server(method: str) -> bool:
    """Begins to score after what runs already; False where the method waits or runs, or this process is no server."""
    if "monailabel.app" not in sys.modules or any(_is_open(task, method) for task in tasks("scoring")):
        return False
    run_background_task({"method": method}, "scoring")
    return True


def _is_open(task: dict, method: str) -> bool:
    return task["request"].get("method") == method and task["status"] in ("SUBMITTED", "RUNNING")
