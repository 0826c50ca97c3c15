"""How nnU-Net, the Medical Segmentation Decathlon and pairs of NIfTI files are laid out in a folder."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.label_sets.chosen_cases import ChosenCase
from lib.label_sets.names import Names

FOLDS = 5
"""As nnU-Net draws them, unless there are fewer patients."""
_OF_NNUNET = re.compile(r"Dataset\d{3}_\w+", re.ASCII)
UNKNOWN_MODALITY = "image"
"""What a channel is called whose modality nothing tells; nnU-Net then scales each image by its own voxels."""


class LayoutError(ValueError):
    """The cases cannot be laid out so; a sentence with what to do."""


@dataclass(frozen=True)
class Content:
    """What the files of a layout say of the whole set.

    Attributes:
        name: of the set.
        modality: of all images; None where nothing tells it.
        values: by structure, its voxel value in all labels.
        files: by case, its image and its label, relative to the folder.
        patients: by case.
    """

    name: str
    modality: str | None
    values: Mapping[str, int]
    files: Mapping[str, tuple[str, str]]
    patients: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """A form that other programs read.

    Attributes:
        image: path of an image, with ``{case}``.
        label: path of a label.
        is_one_task: whether a structure has one value in all labels, and all images are of one modality.
        files: content of further JSON files, by name.
        name: what the folder has to be called, as a regular expression; None for anything.
        folders: further ones, empty.
        write: writes the image and the label of a case, in place of NIfTI.
    """

    image: str
    label: str
    is_one_task: bool
    files: Callable[[Content], dict[str, Any]] = lambda content: {}
    name: re.Pattern[str] | None = None
    folders: tuple[str, ...] = ()
    write: Callable[[ChosenCase, Names, Path, Path], None] | None = None


def _nnunet(content: Content) -> dict[str, Any]:
    dataset = {
        "channel_names": {"0": content.modality or UNKNOWN_MODALITY},
        "labels": {"background": 0, **content.values},
        "numTraining": len(content.files),
        "file_ending": ".nii.gz",
        "name": content.name,
    }
    folds = folds_of(content.patients)
    return {"dataset.json": dataset} | ({"splits_final.json": folds} if folds else {})


def _msd(content: Content) -> dict[str, Any]:
    names = {"0": "background"} | {str(value): name for name, value in content.values.items()}
    training = [{"image": f"./{image}", "label": f"./{label}"} for image, label in content.files.values()]
    dataset = {
        "name": content.name,
        "description": "",
        "reference": "",
        "licence": "",
        "release": "",
        "tensorImageSize": "3D",
        "modality": {"0": content.modality or UNKNOWN_MODALITY},
        "labels": names,
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "test": [],
    }
    return {"dataset.json": dataset}


LAYOUTS = {
    "nnunet": Layout("imagesTr/{case}_0000.nii.gz", "labelsTr/{case}.nii.gz", True, _nnunet, _OF_NNUNET),
    "msd": Layout("imagesTr/{case}.nii.gz", "labelsTr/{case}.nii.gz", True, _msd, folders=("imagesTs",)),
    "nifti": Layout("images/{case}.nii.gz", "labels/{case}.nii.gz", False),
}


def require_name(layout: Layout, name: str) -> None:
    """Passes if a folder may be called so.

    Raises:
        LayoutError: it may not.
    """
    if layout.name is not None and not layout.name.fullmatch(name):
        raise LayoutError(
            f"nnU-Net takes folders called DatasetNNN_Name alone, such as Dataset101_Lesions; got {name!r}."
        )


def folds_of(patients: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """Folds of cases to train and to validate on; each patient is validated once, with all cases. [] for one patient.

    Args:
        patients: by case.
    """
    cases: dict[str, list[str]] = {}
    for case, patient in sorted(patients.items()):
        cases.setdefault(patient, []).append(case)
    held: list[list[str]] = [[] for _ in range(min(FOLDS, len(cases)))]
    if len(held) < 2:
        return []
    # Patients with the most cases first, each into the fold that has the fewest, so that folds are of one size.
    for patient in sorted(cases, key=lambda patient: (-len(cases[patient]), patient)):
        min(held, key=len).extend(cases[patient])
    return [{"train": sorted(set(patients) - set(fold)), "val": sorted(fold)} for fold in held]


def values_of(names: Sequence[str]) -> dict[str, int]:
    """Voxel values from 1, in alphabetical order."""
    return {name: value for value, name in enumerate(sorted(set(names)), start=1)}
