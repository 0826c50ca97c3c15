"""Scoring in a process beside the server, which MONAI Label runs as it runs trainings and batches."""

import sys

from monailabel.utils.async_tasks.utils import run_background_task, tasks

PREDICTED_DICE = "predicted_dice"
"""Name of the scoring method that learns what answers are worth; the other one has the name of the strategy."""


def score_beside_server(method: str) -> bool:
    """Begins to score after what runs already; False where the method waits or runs, or this process is no server."""
    if "monailabel.app" not in sys.modules or any(_is_open(task, method) for task in tasks("scoring")):
        return False
    run_background_task({"method": method}, "scoring")
    return True


def _is_open(task: dict, method: str) -> bool:
    return task["request"].get("method") == method and task["status"] in ("SUBMITTED", "RUNNING")
