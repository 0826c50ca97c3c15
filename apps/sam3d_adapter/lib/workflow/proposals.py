"""Masks that the server proposes for cases nobody has labelled, and what became of them."""

from collections.abc import Mapping
from typing import Any

TAG = "original"
"""MONAI Label's, of masks that a task made."""
KEY = "proposal"
"""In what is kept of a label: of the proposal itself, and of the label that was submitted where there was one."""
TAKEN, CORRECTED, REPLACED = "taken", "corrected", "replaced"
"""What became of it: submitted voxel by voxel as it was; changed; or a mask was submitted that has little of it."""
LEAST_KEPT = 0.5
"""Dice with the proposal from which on a label is its correction."""


def confidence_of(info: Mapping[str, Any]) -> float | None:
    """Confidence of a proposal, 0 to 1; None of another label."""
    found = info.get(KEY)
    value = found.get("confidence") if isinstance(found, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def outcome_of(info: Mapping[str, Any]) -> str | None:
    """What became of the proposal that a submitted label began with; None where there was none."""
    found = info.get(KEY)
    outcome = found.get("outcome") if isinstance(found, Mapping) else None
    return outcome if outcome in (TAKEN, CORRECTED, REPLACED) else None
