"""The page of a preset's versions, from what the registry knows of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.learning.page import Scores, Version, page, write_page
from lib.registry import version as registry_version
from lib.registry.reader import CURVE
from lib.registry.state import REFUSED
from lib.registry.version import SHIPPED
from lib.registry.versions import Versions

PAGE = "versions.html"


def write_versions_page(versions: Versions) -> Path:
    """Writes ``versions.html`` beside the versions of a preset; only for the holder of the training's lock.

    Args:
        versions: of the preset.

    Returns:
        The file.

    Raises:
        RegistryError: the registry cannot be read.
        OSError: neither can it, or the page cannot be written.
    """
    entries = _entries(versions)
    path = versions.folder / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, versions.preset, entries)
    return path


def versions_page(versions: Versions) -> str:
    """The page of a preset's versions as they are now; touches no file.

    Args:
        versions: of the preset.

    Raises:
        RegistryError: the registry cannot be read.
        OSError: neither can it.
    """
    return page(versions.preset, _entries(versions))


def _entries(versions: Versions) -> list[Version]:
    stages = versions.stages()
    known = versions.versions()
    is_shipped = versions.state().served == SHIPPED
    entries = [Version(SHIPPED, state="served" if is_shipped else "shipped", scores=_of_shipped(known))]
    return [*entries, *(_entry(version, stages.get(version.id, ""), versions) for version in known)]


def _of_shipped(known: Sequence[registry_version.Version]) -> dict[str, Scores]:
    """Of the weights that the preset names, as they were last measured beside a candidate."""
    for version in reversed(known):
        for name, compared in version.metrics.get("compared_with", {}).items():
            found = version.metrics.get("validation", {}).get(name)
            if compared == SHIPPED and found:
                return {"candidate": _scores(found)}
    return {}


def _scores(found: Mapping[str, Any]) -> Scores:
    return Scores(found["dice_at"], found["nsd2_at"], found["n"])


def _entry(version: registry_version.Version, stage: str, versions: Versions) -> Version:
    metrics = version.metrics
    decision: dict[str, Any] = metrics.get("decision") or {}
    validation = metrics.get("validation", {})
    real = metrics.get("real_users", {}).get(version.sha256) or {}
    candidate = validation.get("candidate", {})
    published, reasons = decision.get("publish"), metrics.get("reasons", ())
    if published and stage == REFUSED:
        # What the gate compared it with was no longer in force.
        published = False
        reasons = [state.event.reason for state in versions.events_of(version.id) if state.event][-1:]
    return Version(
        version.id,
        parent=version.parent,
        created=version.created,
        state="replaced" if stage == "published" else stage,
        scores={name: _scores(found) for name, found in validation.items()},
        published=published,
        reasons=reasons,
        curve=_curve(versions.path(version.id) / CURVE),
        real={
            "clicks": real.get("median_clicks"),
            "seconds": real.get("median_seconds"),
            "cases": real.get("count"),
        },
        simulated={"clicks": (candidate.get("noc85") or {}).get("mean")},
        training_cases=metrics.get("cases", {}).get("train"),
    )


def _curve(path: Path) -> list[dict[str, float]]:
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []
