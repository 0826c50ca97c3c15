"""What ``/info`` says, in the order and with the values that OHIF and 3D Slicer need.

Both preselect the first task and the first label, show the statistics of the first trainer alone, divide by its
``total_epochs``, and take ``total_time`` for a sign that its training has ended.
"""

from collections.abc import Mapping
from typing import Any

from lib.learning.progress import NOTHING

_NEVER_TRAINED = {"epoch": 0, "total_epochs": 1, "total_time": "0:00:00"}


def for_viewers(info: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of ``/info``: tasks that can be used first, then those without weights; the newest training first.

    Args:
        info: what MONAI Label says of the app.
    """
    models = _usable_first(info["models"])
    # As MONAI Label merges them.
    ranked = [sorted(model["labels"], key=model["labels"].__getitem__) for model in models.values()]
    return {
        **info,
        "models": models,
        "labels": list(dict.fromkeys(label for labels in ranked for label in labels)),
        "trainers": _usable_first(info["trainers"]),
        "train_stats": newest_first(info["train_stats"]),
    }


def _usable_first(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return dict(sorted(tasks.items(), key=lambda item: not item[1].get("available", True)))


def newest_first(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Statistics of trainers: the newest training that learned something or still goes on comes first.

    Args:
        stats: by trainer.
    """
    known = {name: found if isinstance(found, Mapping) else {} for name, found in stats.items()}

    def rank(name: str) -> tuple[bool, str]:
        found = known[name]
        return found.get("stage") not in (None, NOTHING), str(found.get("started", ""))

    return {
        name: known[name] if "total_epochs" in known[name] else {**_NEVER_TRAINED, **known[name]}
        for name in sorted(known, key=rank, reverse=True)
    }
