"""Patches: one unreadable or not-a-number entry of the training statistics makes ``/info`` and every click fail.

MONAI Label 0.8.5 reads every trainer's statistics file at each ``/info`` and before each inference
(``monailabel/interfaces/app.py:219``). A file that is just being written, or that holds NaN or infinity, which JSON
cannot express, turns both into status 500. The status of a training (``GET /train/``) is that of its process with the
lines that it wrote; which labels it left out, and why, is not to be found there. We know of no upstream issue.
"""

import functools
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from monailabel.interfaces.utils.app import app_instance

from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap

logger = logging.getLogger(__name__)

Trainers = TypeVar("Trainers", bound=Mapping[str, Any])


def with_safe_stats(trainers: Trainers) -> Trainers:
    """Makes ``stats()`` of every train task return something that can be sent, whatever it read.

    Args:
        trainers: MONAI Label train tasks by name; their ``stats`` is replaced.
    """
    check_host_version(__name__)
    for name, trainer in trainers.items():
        trainer.stats = _safe(trainer.stats, name)
    return trainers


def _safe(stats: Callable[[], Any], name: str) -> Callable[[], Any]:
    @functools.wraps(stats)
    def safe_stats() -> Any:
        try:
            return finite(stats())
        # Broad: statistics are decoration, and whatever goes wrong with them must not stop a click.
        except Exception:
            logger.warning("Statistics of trainer %s cannot be read.", name, exc_info=True)
            return {}

    return safe_stats


def finite(value: Any) -> Any:
    """A copy in which NaN and infinity are None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def patch_train_status() -> None:
    """Wraps the endpoint's function; does nothing in a process that serves no HTTP."""
    wrap("monailabel.endpoints.train", "status", _status)


def left_out(trainers: Mapping[str, Any]) -> dict[str, Any]:
    """What the newest training of each preset left out, and what it decided about the labels that it read.

    Args:
        trainers: train tasks by name.

    Returns:
        By name ``skipped`` and ``notes``, sentences; trainings that had nothing to say are not in it.
    """
    said = {}
    for name, trainer in trainers.items():
        stats = trainer.stats()
        found = {key: list(stats[key]) for key in ("skipped", "notes") if stats.get(key)}
        if found:
            said[name] = found
    return said


def _status(host: Any, all: bool = False, check_if_running: bool = False) -> Any:
    check_host_version(__name__)
    status = host(all, check_if_running)
    if check_if_running or not isinstance(status, dict):
        return status
    said = left_out(app_instance()._trainers)
    return {**status, "labels": said} if said else status
