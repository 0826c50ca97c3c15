"""A fine-tuning run on the disk: its facts and finished stages, so that it can be resumed, and the up-to-date check."""

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
from lib.learning.settings import TrainSettings
from lib.learning.validation_snapshot import remove_validation_snapshot
from lib.registry.version import SHIPPED
from lib.registry.versions import Versions
from lib.version import __version__

logger = logging.getLogger(__name__)

TRAINING, MEASURING, DECIDING, DONE = STAGES = ("training", "measuring", "deciding", "done")
VALIDATED = "validation"
"""Key of the facts: the validation cases, on which the models are measured."""
_RUN_FILE = "run.json"


@dataclass
class Run:
    """A folder ``runs/<id>``.

    Attributes:
        folder: of the run.
        facts: parent, data and settings; two runs with equal facts are the same run.
        stage: the current one.
        results: of the finished stages.
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
        """Enters a stage; it is on the disk before this returns.

        Args:
            stage: one of ``STAGES``.
            results: plain JSON, kept for later stages.
        """
        self.stage = stage
        self.results |= results
        self._write()

    def _write(self) -> None:
        content = {"facts": dict(self.facts), "stage": self.stage, "results": self.results}
        with replacing(self.folder / _RUN_FILE) as partial:
            partial.write_text(json.dumps(content, indent=1), encoding="utf-8")


def open_run(folder: Path, facts: Mapping[str, Any], *, fresh: bool = False) -> tuple[Run, bool]:
    """The stopped run with the same facts, or a new one; other stopped runs are removed.

    A run whose training is finished is also resumed if only its validation cases have changed; it is measured again.
    Only one process at a time may call this for a preset.

    Args:
        folder: ``runs`` of the preset.
        facts: plain JSON.
        fresh: whether to start a new run in any case.

    Returns:
        The run, and whether it is resumed.
    """
    private_folder(folder)
    found = None
    for run in _stopped(folder):
        if found is None and not fresh and (run.facts == dict(facts) or _is_trained(run, facts)):
            found = run
        else:
            # It was stopped on other data or with another parent, so it cannot be resumed.
            shutil.rmtree(run.folder, ignore_errors=True)
    if found is not None:
        if found.facts != dict(facts):
            remove_validation_snapshot(found.folder)
            found.facts = _plain(facts)
            found.advance(MEASURING)
        return found, True
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    run = Run(folder / name, _plain(facts), TRAINING, {})
    run.folder.mkdir(mode=0o700)
    run._write()
    return run, False


def remove_finished_runs(folder: Path, keep: int) -> None:
    """Removes the oldest finished runs; their versions hold all that is worth keeping."""
    finished = [run for run in _runs(folder) if run.stage == DONE]
    for run in finished[: max(0, len(finished) - keep)]:
        shutil.rmtree(run.folder, ignore_errors=True)


def up_to_date_reason(versions: Versions, facts: Mapping[str, Any], settings: TrainSettings) -> str | None:
    """Why a round need not start: the last one had the same labels, parent and settings. None if it must start.

    Args:
        versions: of the preset.
        facts: of the round.
        settings: of the request.
    """
    runs = list(_runs(versions.folder / "runs"))
    if settings.fresh or not runs:
        return None
    run = runs[-1]
    if run.stage != DONE or run.facts != dict(facts) or run.results.get("wanted") != outcome_settings(settings):
        return None
    version, measured = run.results.get("version"), run.results.get("measured")
    if version not in versions.ids():
        return None
    state = versions.state()
    # Other reference versions could change the decision, unless this one is served already or nothing was compared.
    in_force = {"served": state.served, "best": state.best or SHIPPED}
    if measured and measured != in_force and state.served != version:
        return None
    return (
        f"Nothing has changed since the last training, which made {version}: the labels, the version to start from and "
        "the settings are the same, and so would be the weights. Submit or correct a label, or send fresh=true to "
        "train all the same."
    )


def no_new_labels_reason(versions: Versions, facts: Mapping[str, Any]) -> str | None:
    """Why a round has nothing new to learn from, whatever its settings and its parent; None if it has.

    Args:
        versions: of the preset.
        facts: of the round.
    """
    finished = [run for run in _runs(versions.folder / "runs") if run.stage == DONE]
    if not finished or any(finished[-1].facts.get(key) != facts[key] for key in ("train", VALIDATED)):
        return None
    return (
        f"No label is new since the last training, which made {finished[-1].results.get('version')}. Submit or correct "
        "a label, or train this preset by itself."
    )


def outcome_settings(settings: TrainSettings) -> dict[str, Any]:
    """Settings besides the facts that the outcome depends on; plain JSON."""
    return {"publish": settings.publish, "max_minutes": settings.max_minutes, "app": __version__}


def _is_trained(run: Run, facts: Mapping[str, Any]) -> bool:
    """Whether the run has finished the same training and is being measured."""
    before, now = ({key: one[key] for key in one if key != VALIDATED} for one in (run.facts, facts))
    return run.stage == MEASURING and before == now


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(dict(facts))))


def _stopped(folder: Path) -> list[Run]:
    """Stopped runs, newest first; folders without readable facts were stopped before they began."""
    return [run for run in reversed(list(_runs(folder))) if run.stage != DONE]


def _runs(folder: Path) -> Iterator[Run]:
    if not folder.is_dir():
        return
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            content = json.loads((place / _RUN_FILE).read_text(encoding="utf-8"))
            yield Run(place, content["facts"], content["stage"], content["results"])
        except (OSError, ValueError, KeyError, TypeError):
            yield Run(place, {}, TRAINING, {})
