"""The page of a preset's versions, from what the registry knows of them."""

import json
from pathlib import Path
from typing import Any

from lib.learning.page import Scores, Version, write_page
from lib.registry import version as registry_version
from lib.registry.version import SHIPPED
from lib.registry.versions import Versions

PAGE = "versions.html"


def write_versions_page(versions: Versions) -> Path:
    """Writes ``versions.html`` beside the versions of a preset.

    Args:
        versions: of the preset.

    Returns:
        The file.

    Raises:
        RegistryError: the registry cannot be read.
        OSError: neither can it, or the page cannot be written.
    """
    stages = versions.stages()
    entries = [Version(SHIPPED, state="served" if versions.served() is None else "shipped")]
    entries += [_entry(version, stages.get(version.id, ""), versions) for version in versions.versions()]
    path = versions.folder / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, versions.preset, entries)
    return path


def _entry(version: registry_version.Version, stage: str, versions: Versions) -> Version:
    metrics = version.metrics
    decision: dict[str, Any] = metrics.get("decision") or {}
    validation = metrics.get("validation", {})
    real = metrics.get("real_users", {}).get(version.sha256) or {}
    candidate = validation.get("candidate", {})
    return Version(
        version.id,
        parent=version.parent,
        created=version.created,
        state="replaced" if stage == "published" else stage,
        scores={name: Scores(found["dice_at"], found["nsd2_at"], found["n"]) for name, found in validation.items()},
        published=decision.get("publish"),
        reasons=metrics.get("reasons", ()),
        curve=_curve(versions.path(version.id) / "curve.json"),
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
