"""One fine-tuning run on the disk: what it is about and which stages are behind, so that it can be gone on with."""

import json
import logging
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.files.atomic_write import replacing
from lib.files.folders import private_folder
from lib.learning.validation_snapshot import forget_validation

logger = logging.getLogger(__name__)

TRAINING, MEASURING, DECIDING, DONE = STAGES = ("training", "measuring", "deciding", "done")
VALIDATED = "validation"
"""Of a run's facts: what its models are measured on."""
_FACTS = "run.json"


@dataclass
class Run:
    """A folder ``runs/<id>``.

    Attributes:
        folder: of the run.
        facts: all that makes two runs the same one: parent, data, settings.
        stage: the one it is in.
        results: of the stages behind.
    """

    folder: Path
    facts: Mapping[str, Any]
    stage: str
    results: dict[str, Any]

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    def advance(self, stage: str, **results: Any) -> None:
        """Enter a stage; it is on the disk before this returns.

        Args:
            stage: one of ``STAGES``.
            results: plain JSON, kept for the stages to come.
        """
        self.stage = stage
        self.results |= results
        self._write()

    def _write(self) -> None:
        content = {"facts": dict(self.facts), "stage": self.stage, "results": self.results}
        with replacing(self.folder / _FACTS) as partial:
            partial.write_text(json.dumps(content, indent=1), encoding="utf-8")


def open_run(folder: Path, facts: Mapping[str, Any], *, fresh: bool = False) -> tuple[Run, bool]:
    """The run that was stopped with the same facts, or a new one; others that were stopped are removed.

    One whose training is finished is gone on with, too, where nothing but what it is measured on has changed; it is
    then measured anew.

    Only one process may do this for a preset at a time.

    Args:
        folder: ``runs`` of the preset.
        facts: plain JSON.
        fresh: start anew in any case.

    Returns:
        The run, and whether it is gone on with.
    """
    private_folder(folder)
    found = None
    for run in _stopped(folder):
        if found is None and not fresh and (run.facts == dict(facts) or _is_trained(run, facts)):
            found = run
        else:
            # What was stopped half-way on other data or from another parent is nothing to go on with.
            shutil.rmtree(run.folder, ignore_errors=True)
    if found is not None:
        if found.facts != dict(facts):
            forget_validation(found.folder)
            found.facts = _plain(facts)
            found.advance(MEASURING)
        return found, True
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    run = Run(folder / name, _plain(facts), TRAINING, {})
    run.folder.mkdir(mode=0o700)
    run._write()
    return run, False


def forget_finished(folder: Path, keep: int) -> None:
    """Remove the oldest finished runs; their versions hold all that is worth keeping."""
    finished = [run for run in _runs(folder) if run.stage == DONE]
    for run in finished[: max(0, len(finished) - keep)]:
        shutil.rmtree(run.folder, ignore_errors=True)


def newest_if_finished(folder: Path) -> Run | None:
    """The newest run, if it is finished; None where there is none, or it was stopped.

    Args:
        folder: ``runs`` of the preset.
    """
    runs = list(_runs(folder))
    return runs[-1] if runs and runs[-1].stage == DONE else None


def _is_trained(run: Run, facts: Mapping[str, Any]) -> bool:
    """Whether the run has trained what is asked for, and is being measured."""
    before, now = ({key: one[key] for key in one if key != VALIDATED} for one in (run.facts, facts))
    return run.stage == MEASURING and before == now


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(dict(facts))))


def _stopped(folder: Path) -> list[Run]:
    """Newest first; folders without readable facts were stopped before they began."""
    return [run for run in reversed(list(_runs(folder))) if run.stage != DONE]


def _runs(folder: Path) -> Iterator[Run]:
    if not folder.is_dir():
        return
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            content = json.loads((place / _FACTS).read_text(encoding="utf-8"))
            yield Run(place, content["facts"], content["stage"], content["results"])
        except (OSError, ValueError, KeyError, TypeError):
            yield Run(place, {}, TRAINING, {})
