"""Masks that the server proposes for cases nobody has labelled, and what became of them."""

from collections.abc import Mapping
from typing import Any

TAG = "original"
"""MONAI Label's, of masks that a task made."""
KEY = "proposal"
"""In what is kept of a label: of the proposal itself, and of the label that was submitted where there was one."""
TAKEN, CORRECTED, REPLACED, REJECTED = "taken", "corrected", "replaced", "rejected"
"""What became of it: submitted voxel by voxel as it was; changed; a mask was submitted that has little of it; or
somebody said that it is of no use, which is kept with the proposal itself."""
LEAST_KEPT = 0.5
"""Dice with the proposal from which on a label is its correction."""
_NUMBERS = ("dice", "at_least", "share", "patients")


def is_proposal(info: Mapping[str, Any]) -> bool:
    """Whether what is kept of a label says that the server proposes it: nobody has rejected it."""
    found = info.get(KEY)
    return isinstance(found, Mapping) and "outcome" not in found


def is_rejected(info: Mapping[str, Any]) -> bool:
    """Whether what is kept of a proposal says that somebody rejected it."""
    return outcome_of(info) == REJECTED


def with_decision(proposal: Mapping[str, Any], rejected: bool, by: str) -> dict[str, Any]:
    """The entry `KEY` of a proposal after somebody has rejected it, or taken that back."""
    facts = {key: value for key, value in proposal.items() if key not in ("outcome", "by")}
    return {**facts, "outcome": REJECTED, "by": by} if rejected else facts


def predicted_dice_of(info: Mapping[str, Any]) -> dict[str, float] | None:
    """``dice``, ``at_least``, ``share`` and ``patients``, as an answer has them; None where nothing was predicted."""
    found = info.get(KEY)
    stated = found.get("predicted_dice") if isinstance(found, Mapping) else None
    if not isinstance(stated, Mapping) or not all(_is_number(stated.get(key)) for key in _NUMBERS):
        return None
    return {key: stated[key] for key in _NUMBERS}


def predicted_dice_in_words(info: Mapping[str, Any]) -> str:
    """What a proposal is predicted to be worth; empty where nothing is predicted."""
    if (found := predicted_dice_of(info)) is None:
        return ""
    return (
        f"Dice is predicted {found['dice']:.2f}: at least {found['at_least']:.2f} in {10 * found['share']:.0f} of 10 "
        f"cases like the {found['patients']:.0f} labelled here"
    )


def outcome_of(info: Mapping[str, Any]) -> str | None:
    """What became of a proposal, by what is kept of it or of the label that was submitted; None where nothing did."""
    found = info.get(KEY)
    outcome = found.get("outcome") if isinstance(found, Mapping) else None
    return outcome if outcome in (TAKEN, CORRECTED, REPLACED, REJECTED) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
