"""Forgetting: how much of its earlier skill a model loses in a round, measured on held-out synthetic lesions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lib.learning.rehearsal import Rehearsal
from lib.training.interaction import InteractionConfig
from lib.training.network import Network
from lib.training.sampling import for_validation
from lib.training.state import Point
from lib.training.stream import Batch, SampleStream
from lib.training.validation import validate

BATCHES = 12
"""Batches of two regions."""
NOTABLE = 0.05
"""Loss of Dice from which on a sentence says what to do about it."""


@dataclass(frozen=True)
class ForgettingTest:
    """Measures a model before and after a round on the same regions.

    Attributes:
        batches: the regions; empty without rehearsal.
        interaction: of the simulated user.
        precision: one of `lib.models.precision.PRECISIONS`.
    """

    batches: tuple[Batch, ...]
    interaction: InteractionConfig
    precision: str

    @classmethod
    def of(cls, rehearsal: Rehearsal | None, interaction: InteractionConfig, precision: str) -> "ForgettingTest":
        """On the held-out phantoms of a server."""
        if rehearsal is None:
            return cls((), interaction, precision)
        # Half of the large objects are cut off by the ROI, as at the first zoom level in serving.
        config = replace(for_validation(rehearsal.preset.roi.size), too_fine_share=0.5)
        stream = iter(SampleStream(rehearsal.held_out(), config, seed=0, batch=2))
        return cls(tuple(next(stream) for _ in range(BATCHES)), interaction, precision)

    def measure(self, model: Network) -> Point:
        """``dice`` after one click, ``dice_N`` after N clicks, ``obeyed``; empty without rehearsal."""
        return validate(model.eval(), self.batches, self.interaction, self.precision)


def forgetting_sentences(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One or two sentences about the loss of Dice; none where nothing was measured.

    Args:
        measured: ``before`` and ``after``, from `ForgettingTest.measure`.
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
