"""Takes over what format 1 kept and served: one flat file a preset, ``<preset>.safetensors``, with ``<preset>.json``.

The version it becomes is published; the old weights file stays where it is (a preset may name it as its own), and the
old JSON gets another name when all is done. Killed in between, the next writer goes on where this one stopped.
"""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.registry.errors import RegistryError
from lib.registry.files import sha256_of
from lib.registry.version import Facts

if TYPE_CHECKING:
    from lib.registry.versions import Versions

logger = logging.getLogger(__name__)

_ORIGIN = {"format": 1}


def upgrade_flat_file(versions: "Versions", facts_path: Path) -> None:
    """Makes a version of a flat file, if there is one; only for the holder of the lock.

    A damaged one is left alone, with a warning: the shipped weights are then served.

    Args:
        versions: of the preset.
        facts_path: its ``<preset>.json`` of format 1.

    Raises:
        OSError: the disk could not take it.
    """
    weights = facts_path.with_suffix(".safetensors")
    if not facts_path.is_file() or not weights.is_file():
        return
    try:
        facts = json.loads(facts_path.read_bytes())
        # Other files may have this name: only what says of itself that it is one is taken for one.
        if not isinstance(facts, dict) or facts.get("format") != 1:
            return
        sha256 = sha256_of(weights)
        if facts.get("sha256", sha256) != sha256:
            raise RegistryError("its weights are not those that its JSON speaks of")
        if facts.get("size", versions.size) != versions.size:
            raise RegistryError(f"it belongs to model size {facts['size']!r}")
        found = versions.find(sha256)
        if found is None or found.origin != _ORIGIN:
            found = versions.add(weights, _facts(facts))
        if not versions.events_of(found.id):
            versions.publish(found.id, "upgrade", "served before versions were kept")
        facts_path.replace(facts_path.with_name(f"{facts_path.name}.upgraded"))
        logger.info("Preset %s: what an earlier release kept is now version %s.", versions.preset, found.id)
    except (RegistryError, ValueError, TypeError) as error:
        logger.warning("Preset %s: what an earlier release kept is not taken over: %s.", versions.preset, error)


def _facts(facts: dict[str, Any]) -> Facts:
    metrics = facts.get("metrics")
    started_by = facts.get("started_by")
    return Facts(
        started_by=started_by if isinstance(started_by, str) and started_by.strip() else "unknown",
        metrics=metrics if isinstance(metrics, dict) else {},
        origin=_ORIGIN,
    )
