"""What a recipe trains on: labelled volumes of the user's folder, and volumes that are made from it before training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.phantoms.data_set import write_phantoms
from lib.presets import load_preset
from lib.pretraining.pretrain import CONFIGS, DataSetChoice
from lib.regions.data_set import write_regions
from lib.synthesis.data_set import write_synthetic
from lib.training.data_sets import IMAGE_ENDINGS, case_name, volume_files


class RecipeError(ValueError):
    """The recipe cannot be followed with what was given."""


@dataclass(frozen=True)
class Labelled:
    """Labelled volumes of one kind. Cases on the list of held-out cases are validated on, all others are trained on.

    Attributes:
        name: Folder below the folder of the data; holds ``images/`` and ``labels/`` with files of equal names.
        preset: Gives intensities and spacings.
        share: Of the samples, relative to the others; 0 where all cases are held out.
        labels_are_objects: Whether each value of a label map is an object; otherwise all of them are the one object.
    """

    name: str
    preset: str
    share: float
    labels_are_objects: bool = False

    def choice(self, data: Path) -> DataSetChoice:
        """The data set in the folder of the data."""
        preset = load_preset(CONFIGS / f"{self.preset}.yaml")
        return DataSetChoice(preset, data / self.name, self.share, labels_are_objects=self.labels_are_objects)

    def split(self, data: Path, held_out: frozenset[str]) -> tuple[list[str], list[str]]:
        """Names of the cases to train on and of the held-out ones.

        Raises:
            RecipeError: One of the two is expected and empty.
            DataSetError: Images and labels do not fit together.
        """
        names = {case_name(file) for file in volume_files(data / self.name)}
        trained, kept = sorted(names - held_out), sorted(names & held_out)
        if bool(trained) != (self.share > 0) or not kept:
            wanted = "cases of both kinds" if self.share else "held-out cases alone"
            raise RecipeError(
                f"{data / self.name} holds {len(trained)} case(s) to train on and {len(kept)} that are held out: "
                f"expected {wanted}, under the names that the list of held-out cases has."
            )
        return trained, kept

    def missing(self, data: Path) -> list[str]:
        """Folders that hold no volume."""
        return [f"{self.name}/{kind}" for kind in ("images", "labels") if not _is_filled(data / self.name / kind)]

    def read(self, data: Path, held_out: frozenset[str]) -> list[Path]:
        """Files that decide about the weights."""
        return [file for kind in ("images", "labels") for file in _volumes(data / self.name / kind)]


@dataclass(frozen=True)
class Generated:
    """Volumes that are made before training: one ``*.npz`` for each seed.

    Attributes:
        name: Folder below the folder of results.
        maker: One of `MAKERS`.
        preset: Gives intensities and spacings; its name is the modality.
        share: Of the samples, relative to the others; 0 where they are validated on.
        seeds: One volume each.
        inputs: Folders of volumes below the folder of the data, from which they are made.
    """

    name: str
    maker: str
    preset: str
    share: float
    seeds: range
    inputs: tuple[str, ...] = ()

    def choice(self, out: Path) -> DataSetChoice:
        """The data set in the folder of results."""
        return DataSetChoice(load_preset(CONFIGS / f"{self.preset}.yaml"), out / self.name, self.share)

    def missing(self, data: Path) -> list[str]:
        """Input folders that hold no volume."""
        return [folder for folder in self.inputs if not _is_filled(data / folder)]

    def read(self, data: Path, held_out: frozenset[str]) -> list[Path]:
        """Files that decide about the volumes."""
        return [f for folder in self.inputs for f in _volumes(data / folder) if case_name(f) not in held_out]

    def make(self, out: Path, data: Path, held_out: frozenset[str], seeds: Sequence[int]) -> None:
        """Makes some of the volumes; existing ones are kept.

        Args:
            out: Folder of results.
            data: Folder of the data.
            held_out: Cases that nothing is made from.
            seeds: Some of `seeds`.
        """
        MAKERS[self.maker](out / self.name, self.read(data, held_out), self.preset, seeds)


Source = Labelled | Generated


def _phantoms(out: Path, inputs: Sequence[Path], modality: str, seeds: Sequence[int]) -> None:
    write_phantoms(out, seeds, all_structures=True)


MAKERS: Mapping[str, Callable[..., None]] = {
    "phantoms": _phantoms,
    "synthetic": write_synthetic,
    "regions": write_regions,
}
"""By name; each takes the folder to write to, the input files, the modality, and the seeds."""


def _is_filled(folder: Path) -> bool:
    return bool(_volumes(folder))


def _volumes(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.name.lower().endswith(IMAGE_ENDINGS))
