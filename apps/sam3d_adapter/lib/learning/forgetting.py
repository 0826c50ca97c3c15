"""Forgetting: what is said of how much of its earlier skill a model loses in a round, measured on synthetic lesions."""

from collections.abc import Mapping

NOTABLE = 0.05
"""Loss of Dice from which on a sentence says what to do about it."""


def forgetting_sentences(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One or two sentences about the loss of Dice; none where nothing was measured.

    Args:
        measured: scores of held-out synthetic lesions ``before`` and ``after``, see `lib.training.objective.Objective`.
    """
    before, after = measured.get("before") or {}, measured.get("after") or {}
    if not before or not after:
        return []
    last = next(name for name in before if name.startswith("dice_"))
    sentences = [
        "On synthetic lesions, which stand for what was learned before though real ones may lose more, Dice after one "
        f"click went from {before['dice']:.2f} to {after['dice']:.2f}, after {last.removeprefix('dice_')} from "
        f"{before[last]:.2f} to {after[last]:.2f}."
    ]
    if before["dice"] - after["dice"] > NOTABLE or before[last] - after[last] > NOTABLE:
        sentences.append(
            "Structures other than those that were submitted may have become worse; a preset of its own for each task "
            "avoids that."
        )
    return sentences
