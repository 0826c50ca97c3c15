"""Whether the strategy of Next Sample earns its keep: the cases that it chose beside those drawn at random."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lib.evaluation.statistics import by_patient, difference
from lib.files.atomic_write import replacing
from lib.workflow.first_dice import FirstDice
from lib.workflow.served import RANDOM, STRATEGY, Served

ARMS = "arms.json"
LEAST_PATIENTS = 10
"""In each arm; with fewer, chance decides more than the strategy does."""


@dataclass(frozen=True)
class Comparison:
    """Dice of the first answer on a strategy's cases and on random ones; means over patients.

    Attributes:
        strategy: its name.
        chosen: mean over the patients that it chose.
        drawn: mean over those drawn at random.
        n_chosen: patients.
        n_drawn: patients.
        mean: ``chosen`` minus ``drawn``.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    strategy: str
    chosen: float
    drawn: float
    n_chosen: int
    n_drawn: int
    mean: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """For the page of versions."""
        if self.high < 0:
            finding = "It finds cases that the model knows less well than most."
        elif self.low > 0:
            finding = "It chooses cases that the model knows already; the strategy 'random' would do better."
        else:
            finding = "That it chooses better than chance is not shown."
        return (
            f"Next Sample: Dice after one click was {self.chosen:.2f} on the {self.n_chosen} patients that "
            f"'{self.strategy}' chose and {self.drawn:.2f} on {self.n_drawn} drawn at random: {self.mean:+.2f} "
            f"(95 % interval {self.low:+.2f} to {self.high:+.2f}). {finding}"
        )


def strategies_with_random_arm(served: Iterable[Served]) -> set[str]:
    """Names of the strategies that gave cases of their own choice and cases drawn at random."""
    arms = {(one.strategy, one.arm) for one in served}
    return {strategy for strategy, arm in arms if arm == STRATEGY and (strategy, RANDOM) in arms}


def compare_arms(served: Sequence[Served], measured: Mapping[str, FirstDice]) -> list[Comparison]:
    """One comparison for each strategy with `LEAST_PATIENTS` in both arms, by name.

    A case belongs to the arm that gave it last before its label was saved.

    Args:
        served: oldest first.
        measured: by image id.
    """
    given = {
        one.image: one
        for one in served
        # The host cuts the time of a label to whole seconds.
        if one.image in measured and one.at <= measured[one.image].at + 1
    }
    found = []
    for strategy in sorted(strategies_with_random_arm(served)):
        chosen, drawn = (
            by_patient(
                (measured[image].patient, measured[image].dice)
                for image, one in given.items()
                if (one.strategy, one.arm) == (strategy, arm)
            )
            for arm in (STRATEGY, RANDOM)
        )
        if min(len(chosen), len(drawn)) < LEAST_PATIENTS:
            continue
        means = [sum(arm.values()) / len(arm) for arm in (chosen, drawn)]
        found.append(Comparison(strategy, means[0], means[1], len(chosen), len(drawn), **difference(chosen, drawn)))
    return found


def write_arms(folder: Path, comparisons: Iterable[Comparison]) -> None:
    """Writes `ARMS`; only for the holder of the training's lock.

    Args:
        folder: of the preset and size.
        comparisons: none makes the pages silent.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / ARMS) as partial:
        partial.write_text(json.dumps([asdict(one) for one in comparisons], indent=1) + "\n", encoding="utf-8")


def read_arms(folder: Path) -> list[Comparison]:
    """What was written last; empty where nothing was, or it is damaged."""
    try:
        return [Comparison(**one) for one in json.loads((folder / ARMS).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
