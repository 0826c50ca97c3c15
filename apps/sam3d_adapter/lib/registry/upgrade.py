"""Reads what format 1 kept and served: ``<preset>.safetensors`` beside ``<preset>.json``."""

import json
from dataclasses import dataclass
from pathlib import Path

from lib.files.checksums import file_sha256
from lib.registry.errors import RegistryError
from lib.registry.version import Facts

FLAT_ORIGIN = {"format": 1}
"""Origin of a version that was made from a flat file."""


@dataclass(frozen=True)
class FlatFile:
    """The one version of a preset in format 1.

    Attributes:
        weights: the file.
        sha256: of the weights.
        facts: what its JSON says.
    """

    weights: Path
    sha256: str
    facts: Facts


def read_flat_file(facts_path: Path, size: str) -> FlatFile | None:
    """The flat file of a preset; None where there is none.

    Args:
        facts_path: ``<preset>.json``.
        size: of the preset's network.

    Raises:
        RegistryError: its weights are damaged, or of another size; so does ValueError for a damaged JSON.
        OSError: it cannot be read.
    """
    weights = facts_path.with_suffix(".safetensors")
    if not facts_path.is_file() or not weights.is_file():
        return None
    stated = json.loads(facts_path.read_bytes())
    # Other files may have this name: take only one that states format 1.
    if not isinstance(stated, dict) or stated.get("format") != 1:
        return None
    sha256 = file_sha256(weights)
    if stated.get("sha256", sha256) != sha256:
        raise RegistryError("its weights are not those that its JSON speaks of")
    if stated.get("size", size) != size:
        raise RegistryError(f"it belongs to model size {stated['size']!r}")
    metrics, started_by = stated.get("metrics"), stated.get("started_by")
    facts = Facts(
        started_by=started_by if isinstance(started_by, str) and started_by.strip() else "unknown",
        metrics=metrics if isinstance(metrics, dict) else {},
        origin=FLAT_ORIGIN,
    )
    return FlatFile(weights, sha256, facts)
