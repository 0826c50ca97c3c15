"""The recipe of the shipped small weights: which volumes, in which shares, for how long."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lib.pretraining.sources import Generated, Labelled, RecipeError, Source

_LABEL_MAPS = tuple(f"labelmaps_{part}/labels" for part in ("trunk", "head_neck", "brain", "legs", "misc"))


@dataclass(frozen=True)
class Recipe:
    """A training on many kinds of objects, by interactions with a simulated user.

    Attributes:
        name: Part of the weights' file name.
        sources: Volumes to train on and to validate on.
        minutes: Limit of the training; None for no limit.
        steps: Limit of the training; None for no limit.
        peak_lr: See `lib.training.train.TrainingConfig`, as the next three.
        precision: "auto" takes the faster one.
        report_s: Seconds between two points of the curve.
        seed: Of the initial weights and of all draws.
        validation_batches: For each point of the curve.
        licence: Of the weights.
        most_bytes: Size limit of both files together.
    """

    name: str = "structures"
    sources: tuple[Source, ...] = (
        Generated("phantoms", "phantoms", "ct", 1.6, range(1000, 1240)),
        Generated("synthetic_ct", "synthetic", "ct", 0.8, range(200), _LABEL_MAPS),
        Generated("synthetic_mr", "synthetic", "mr", 0.9, range(200), _LABEL_MAPS),
        Generated("synthetic_pet", "synthetic", "pet", 0.6, range(200), _LABEL_MAPS),
        Generated("regions_ct", "regions", "ct", 0.15, range(32), ("unlabelled_ct/images", "sts_ct/images")),
        Generated("regions_mr", "regions", "mr", 0.15, range(32), ("unlabelled_mr/images", "sts_mr_t1/images")),
        Labelled("sts_ct", "ct", 0.8),
        Labelled("sts_mr_t1", "mr", 1.3),
        Labelled("sts_pet", "pet", 1.4),
        Labelled("organs_ct", "ct", 0.0, labels_are_objects=True),
        Labelled("vessels_ct", "ct", 0.0, labels_are_objects=True),
        Labelled("fetal_brain_mr", "mr", 0.0, labels_are_objects=True),
        Labelled("ms_lesions_mr", "mr", 0.0),
        Generated("phantoms_held_out", "phantoms", "ct", 0.0, range(1, 21)),
    )
    minutes: float | None = 600.0
    steps: int | None = None
    peak_lr: float = 2e-3
    precision: str = "auto"
    report_s: float = 300.0
    seed: int = 1
    validation_batches: int = 48
    licence: str = "Apache-2.0"
    most_bytes: int = 10_000_000

    def to_dict(self) -> dict[str, object]:
        """Plain values; a training resumes only if they are equal."""
        return {key: _plain(value) for key, value in vars(self).items()}

    @property
    def labelled(self) -> list[Labelled]:
        """Sources in the user's folder."""
        return [source for source in self.sources if isinstance(source, Labelled)]

    @property
    def generated(self) -> list[Generated]:
        """Sources that are made before training."""
        return [source for source in self.sources if isinstance(source, Generated)]


STRUCTURES = Recipe()
"""Recipe of the shipped weights."""


def trial(recipe: Recipe, steps: int) -> Recipe:
    """A recipe of a few minutes, to see that everything runs; its weights are useless.

    Args:
        recipe: To shorten.
        steps: Of training, a point of the curve after each.
    """
    few = tuple(
        replace(source, seeds=source.seeds[:2]) if isinstance(source, Generated) else source
        for source in recipe.sources
    )
    return replace(recipe, sources=few, minutes=None, steps=steps, report_s=0.0, validation_batches=8)


def check_data(recipe: Recipe, data: Path, held_out: frozenset[str]) -> Mapping[str, tuple[list[str], list[str]]]:
    """Names of the labelled cases to train on and of the held-out ones, by folder.

    Args:
        recipe: Lists the folders.
        data: Folder of the volumes.
        held_out: Names of cases.

    Raises:
        RecipeError: A folder is missing, or has no case to train on or to hold out.
        DataSetError: Images and labels do not fit together.
    """
    missing = sorted({folder for source in recipe.sources for folder in source.missing(data)})
    if missing:
        raise RecipeError(
            f"DATA={data} has no volumes in {', '.join(missing)}. docs/weights.md lists the folders that the recipe "
            "reads; files in images/ and labels/ have equal names."
        )
    return {source.name: source.split(data, held_out) for source in recipe.labelled}


def _plain(value: object) -> object:
    if isinstance(value, range):
        return [value.start, value.stop]
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Source):
        return {key: _plain(part) for key, part in vars(value).items()}
    return value
