"""What a model keeps of what it could do before a round: dialogues on synthetic lesions that no round trains on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lib.learning.rehearsal import Replay
from lib.models.sam3d import Sam3dAdapter
from lib.training.interaction import InteractionConfig
from lib.training.sampling import for_validation
from lib.training.state import Point
from lib.training.stream import Batch, SampleStream
from lib.training.validation import validate

BATCHES = 12
"""Of two regions."""
NOTABLE = 0.05
"""Loss of Dice from which on a person is told what to do about it."""


@dataclass(frozen=True)
class Retention:
    """Measures a model before a round and after it, on equal regions.

    Attributes:
        batches: the regions; none where nothing is replayed.
        interaction: the dialogues.
        precision: one of `lib.models.precision.PRECISIONS`.
    """

    batches: tuple[Batch, ...]
    interaction: InteractionConfig
    precision: str

    @classmethod
    def of(cls, replay: Replay | None, interaction: InteractionConfig, precision: str) -> "Retention":
        """On the phantoms of a server that are held out."""
        if replay is None:
            return cls((), interaction, precision)
        # What does not fit is seen too near as often as not: so it is first seen where it is served.
        config = replace(for_validation(replay.preset.roi.size), too_fine_share=0.5)
        stream = iter(SampleStream(replay.held_out(), config, seed=0, batch=2))
        return cls(tuple(next(stream) for _ in range(BATCHES)), interaction, precision)

    def measure(self, model: Sam3dAdapter) -> Point:
        """``dice`` after one click, ``dice_N`` after the last of N, ``obeyed``; nothing where nothing is replayed."""
        return validate(model.eval(), self.batches, self.interaction, self.precision)


def retention_words(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What is to be said of it: a sentence or two, none where nothing was measured.

    Args:
        measured: ``before`` and ``after``, as `Retention.measure` gives them.
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
