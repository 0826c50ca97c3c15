"""The recipe of the shipped small weights: which volumes, in which shares, for how long."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lib.presets import load_preset
from lib.pretraining.pretrain import CONFIGS, DataSetChoice
from lib.training.data_sets import IMAGE_ENDINGS, case_name, volume_files


class RecipeError(ValueError):
    """The recipe cannot be followed with what was given."""


@dataclass(frozen=True)
class Patients:
    """Volumes of one modality.

    Attributes:
        folder: Below the folder of the data; holds ``images/`` and ``labels/`` with files of equal names.
        preset: Gives intensities and spacings.
        share: Of the samples, relative to the others.
    """

    folder: str
    preset: str
    share: float = 0.6

    def choice(self, data: Path) -> DataSetChoice:
        """The data set in the folder of the data."""
        return DataSetChoice(load_preset(CONFIGS / f"{self.preset}.yaml"), data / self.folder, self.share)


@dataclass(frozen=True)
class Recipe:
    """A training from scratch on phantoms and patients, by interactions with a simulated user.

    Attributes:
        name: Part of the weights' file name.
        patients: Volumes to train on and to validate on.
        source: Origin and licence of the patients' volumes.
        phantoms: Seeds to train on.
        held_out_phantoms: Seeds to validate on.
        phantom_preset: Gives intensities and spacings of phantoms.
        phantom_share: Of the samples, relative to the patients'.
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

    name: str = "lesions"
    patients: tuple[Patients, ...] = (
        Patients("sts_ct", "ct"),
        Patients("sts_mr_t1", "mr"),
        Patients("sts_pet", "pet"),
    )
    source: str = (
        "TCIA Soft-tissue-Sarcoma (Vallieres et al. 2015, doi 10.7937/K9/TCIA.2015.7GO2GSKS, CC BY 3.0), "
        "prepared by A. Zwanenburg, IBSI"
    )
    phantoms: range = field(default=range(1000, 1400))
    held_out_phantoms: range = field(default=range(1, 21))
    phantom_preset: str = "ct"
    phantom_share: float = 1.2
    minutes: float | None = 150.0
    steps: int | None = None
    peak_lr: float = 2e-3
    precision: str = "auto"
    report_s: float = 240.0
    seed: int = 1
    validation_batches: int = 16
    licence: str = "Apache-2.0"
    most_bytes: int = 10_000_000

    def to_dict(self) -> dict[str, object]:
        """Plain values; a training resumes only if they are equal."""
        return {key: _plain(value) for key, value in vars(self).items()}

    def phantom_choice(self, folder: Path, seeds: range) -> DataSetChoice:
        """The data set of phantoms in a folder."""
        share = self.phantom_share if seeds == self.phantoms else 1.0
        return DataSetChoice(load_preset(CONFIGS / f"{self.phantom_preset}.yaml"), folder, share)


LESIONS = Recipe()
"""Recipe of the shipped weights."""


def trial(recipe: Recipe, steps: int) -> Recipe:
    """A recipe of a minute or two, to see that everything runs; its weights are useless.

    Args:
        recipe: To shorten.
        steps: Of training, a point of the curve after each.
    """
    recipe = replace(recipe, phantoms=recipe.phantoms[:3], held_out_phantoms=recipe.held_out_phantoms[:2])
    return replace(recipe, minutes=None, steps=steps, report_s=0.0, validation_batches=4)


def check_data(recipe: Recipe, data: Path, held_out: frozenset[str]) -> Mapping[str, tuple[list[str], list[str]]]:
    """Names of the cases to train on and of the held-out ones, by folder.

    Args:
        recipe: Lists the folders.
        data: Folder of the volumes.
        held_out: Names of cases.

    Raises:
        RecipeError: A folder is missing, or has no case to train on or to hold out.
        DataSetError: Images and labels do not fit together.
    """
    kinds = [f"{part.folder}/{kind}" for part in recipe.patients for kind in ("images", "labels")]
    missing = [kind for kind in kinds if not _is_filled(data / kind)]
    if missing:
        folders = ", ".join(f"{part.folder}/" for part in recipe.patients)
        raise RecipeError(
            f"DATA={data} has nothing in {', '.join(missing)}: expected {folders} each with images/ and labels/ that "
            f"hold volumes ({', '.join(IMAGE_ENDINGS)}) of equal names."
        )
    found = {}
    for part in recipe.patients:
        names = {case_name(file) for file in volume_files(data / part.folder)}
        trained, kept = sorted(names - held_out), sorted(names & held_out)
        if not trained or not kept:
            raise RecipeError(
                f"{data / part.folder} holds {len(trained)} case(s) to train on and {len(kept)} of the {len(held_out)} "
                "that are held out: expected both, under the names that the list of held-out cases has."
            )
        found[part.folder] = trained, kept
    return found


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(file.name.lower().endswith(IMAGE_ENDINGS) for file in folder.iterdir())


def _plain(value: object) -> object:
    if isinstance(value, range):
        return [value.start, value.stop]
    return [vars(part) for part in value] if isinstance(value, tuple) else value
