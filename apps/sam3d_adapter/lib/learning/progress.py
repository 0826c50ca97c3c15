"""Progress of a training, in one small file that server, viewers and people read."""

import json
import math
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lib.files.atomic_write import replacing

PROGRESS = "progress.json"
NOTHING = "nothing to learn from"
ENDS = ("not started", "done", "failed", NOTHING)
"""Final stages; in any other stage a training is running or was stopped."""
_STOPPED = "stopped"


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of the newest run of a preset.

    Attributes:
        stage: in a few words.
        epoch: epochs done.
        total_epochs: expected epochs; after the end, the number of epochs done.
        seconds: of training.
        seconds_left: estimate; None before the first epoch.
        loss: mean of the last epoch.
        dice: by number of clicks, of the validation cases' regions.
        version: id of the version it made.
        published: whether it is served; None before the decision.
        reasons: of the decision, in sentences.
        cases: cases trained on and validated on.
        skipped: labels that were left out, with reasons.
        notes: what was decided about labels that are learned from.
        started: ISO 8601, UTC.
        curve: one point per epoch.
    """

    stage: str = "not started"
    epoch: int = 0
    total_epochs: int = 0
    seconds: float = 0.0
    seconds_left: float | None = None
    loss: float | None = None
    dice: dict[str, float] = field(default_factory=dict)
    version: str | None = None
    published: bool | None = None
    reasons: tuple[str, ...] = ()
    cases: dict[str, int] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    started: str = ""
    curve: tuple[dict[str, float], ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing goes on any more."""
        return self.stage in ENDS or self.stage.startswith(_STOPPED)

    def stopped(self) -> "TrainingProgress":
        """The progress after the process that wrote it is gone."""
        goes_on = f"goes on from epoch {self.epoch}" if self.epoch else "begins anew"
        return replace(self, stage=f"{_STOPPED}; the next training {goes_on}", seconds_left=None)

    def stats(self) -> dict[str, Any]:
        """For viewers; Slicer and OHIF show epochs, divide by their total, and take `total_time` for the end."""
        values = {
            "epoch": self.epoch,
            "total_epochs": max(1, self.total_epochs),
            "total_time": str(timedelta(seconds=int(self.seconds))) if self.is_over else None,
            **{key: value for key, value in asdict(self).items() if key not in ("epoch", "total_epochs", "curve")},
        }
        return {key: value for key, value in values.items() if value is not None and _is_finite(value)}


class ProgressFile:
    """``progress.json`` of a preset, written atomically.

    Args:
        path: of the file; its folder is made.

    Attributes:
        value: what was written last.
        before: progress of the training before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.value = self.before = TrainingProgress()

    def start(self, total_epochs: int = 0) -> None:
        """Begins a new training.

        Args:
            total_epochs: most that it may take.
        """
        self.before = self.read() or TrainingProgress()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.value = TrainingProgress(stage="reading the labels", started=started, total_epochs=total_epochs)
        self.update()

    def restore(self) -> None:
        """Shows the training before this one again, where there was one."""
        if self.before.version:
            self.value = self.before
            self.update()

    def update(self, **changes: Any) -> None:
        """Changes some values and writes all."""
        self.value = replace(self.value, **changes)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as partial:
            partial.write_text(json.dumps(asdict(self.value)), encoding="utf-8")

    def read(self) -> TrainingProgress | None:
        """Progress of the last training; None without one, or for a file of another release."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            lists = {key: tuple(found.get(key, ())) for key in ("reasons", "skipped", "notes")}
            return TrainingProgress(**{**found, **lists})
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
