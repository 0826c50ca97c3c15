"""A folder as nnU-Net, the Medical Segmentation Decathlon or an export have it -> its images and labels."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.files.checksums import file_sha256
from lib.label_sets.export import MANIFEST, PROGRAM
from lib.volumes.modality import known_modality

ENDINGS = (".nii.gz", ".nii", ".nrrd")
_KEYS = {"image", "image_sha256", "label", "label_sha256", "tag"}
_EXPECTED = (
    "expected is nnU-Net's raw folder (imagesTr, labelsTr, dataset.json), one of the Medical Segmentation Decathlon, "
    "or the folders 'images' and 'labels' with equal names of files"
)


class SetError(ValueError):
    """A folder that cannot be read as a set; a sentence with what to do."""


@dataclass(frozen=True)
class SetCase:
    """An image and its label in a set.

    Attributes:
        name: of the case.
        image: its file.
        label: its file.
        ending: of the image's file.
        names: of the structures by voxel value, as far as the set says them.
        patient: "" where nothing tells him.
        modality: of the image; None where nothing tells it.
        drawn_by: who drew the label; "" where nobody knows.
        problem: why it cannot be taken; "" for nothing.
        is_as_exported: whether the label is the very file that was exported.
    """

    name: str
    image: Path
    label: Path
    ending: str
    names: Mapping[int, str]
    patient: str = ""
    modality: str | None = None
    drawn_by: str = ""
    problem: str = ""
    is_as_exported: bool = False


def read_set(folder: Path) -> list[SetCase]:
    """The cases of a set, by name.

    Raises:
        SetError: no set, or one that this program cannot take.
        OSError: a file cannot be read.
    """
    if not folder.is_dir():
        raise SetError(f"There is no folder {folder}.")
    if any(folder.glob("*.dcm")):
        raise SetError(
            "DICOM SEG belong in the PACS of their images. Store them there; the server finds those that were drawn on "
            "series that it knows."
        )
    dataset, manifest = _read_json(folder / "dataset.json"), _read_json(folder / MANIFEST)
    made_by = manifest.get("made_by")
    if not (isinstance(made_by, Mapping) and made_by.get("program") == PROGRAM):
        manifest = {}
    if "channel_names" in dataset:
        cases = _nnunet(folder, dataset)
    elif "training" in dataset:
        cases = _msd(folder, dataset)
    elif (folder / "images").is_dir() and (folder / "labels").is_dir():
        cases = _pairs(folder)
    else:
        raise SetError(f"{folder} is no set of labels: {_EXPECTED}.")
    if not cases:
        raise SetError(f"There is no label in {folder}: {_EXPECTED}.")
    entries = {str(entry.get("case")): entry for entry in _list(manifest.get("cases"))}
    return sorted((_told(case, entries.get(case.name)) for case in cases), key=lambda case: case.name)


def read_key(key: Path, folder: Path) -> dict[str, Mapping[str, Any]]:
    """What the pseudonyms of an export stand for, by case.

    Args:
        key: the file that the export wrote beside its folder.
        folder: of the set.

    Raises:
        SetError: it is no such file, or of another export.
    """
    content = _read_json(key)
    cases = content.get("cases")
    if not isinstance(cases, dict) or not all(
        isinstance(case, dict) and case.keys() >= _KEYS for case in cases.values()
    ):
        raise SetError(f"{key.name} is no file that an export wrote beside its folder (OUT.key.json).")
    manifest = folder / MANIFEST
    if not manifest.is_file() or content.get("manifest_sha256") != file_sha256(manifest):
        raise SetError(f"{key.name} belongs to another export: the sha256 of {MANIFEST} is not the one that it names.")
    return cases


def _nnunet(folder: Path, dataset: Mapping[str, Any]) -> list[SetCase]:
    channels, ending = dataset["channel_names"], dataset.get("file_ending")
    if not isinstance(channels, Mapping) or len(channels) != 1:
        raise SetError("The images of this set have several channels; one is expected.")
    if "dataset" in dataset:
        raise SetError("This dataset.json names files in other folders. Copy them into imagesTr and labelsTr.")
    if ending not in ENDINGS:
        raise SetError(f"The files of this set end with {ending!r}; {', '.join(ENDINGS)} are expected. Convert them.")
    names = _names(_mapping(dataset.get("labels")).items())
    modality = known_modality(str(next(iter(channels.values()))))
    files = ((path.name.removesuffix(ending), path) for path in (folder / "labelsTr").glob(f"*{ending}"))
    return [
        SetCase(name, folder / "imagesTr" / f"{name}_0000{ending}", path, ending, names, modality=_modality(modality))
        for name, path in files
    ]


def _msd(folder: Path, dataset: Mapping[str, Any]) -> list[SetCase]:
    channels = _mapping(dataset.get("modality"))
    if len(channels) != 1:
        raise SetError("The images of this set have several channels; one is expected.")
    names = _names((name, value) for value, name in _mapping(dataset.get("labels")).items())
    modality = _modality(known_modality(str(next(iter(channels.values())))))
    cases = []
    for entry in _list(dataset.get("training")):
        image, label = (folder / str(entry.get(key)) for key in ("image", "label"))
        if not all(path.resolve().is_relative_to(folder.resolve()) for path in (image, label)):
            raise SetError("dataset.json names files outside of the folder. Copy them into it.")
        name, ending = _split(image.name)
        cases.append(SetCase(name, image, label, ending, names, modality=modality))
    return cases


def _pairs(folder: Path) -> list[SetCase]:
    images = {_split(path.name)[0]: path for path in sorted((folder / "images").iterdir()) if _split(path.name)[1]}
    cases = []
    for label in sorted((folder / "labels").iterdir()):
        name, ending = _split(label.name)
        if ending:
            image = images.get(name, folder / "images" / label.name)
            cases.append(SetCase(name, image, label, _split(image.name)[1], {}))
    return cases


def _told(case: SetCase, entry: Mapping[str, Any] | None) -> SetCase:
    """With what the manifest of an export says of a case, as long as it is that case."""
    changes: dict[str, Any] = {}
    missing = [path.name for path in (case.image, case.label) if not path.is_file()]
    if missing:
        changes["problem"] = f"{missing[0]} is missing"
    elif not case.ending:
        changes["problem"] = f"{case.image.name} is of a type that is not read; {', '.join(ENDINGS)} are expected"
    elif entry is not None:
        if entry.get("image_sha256") != file_sha256(case.image):
            changes["problem"] = "its image is not the one that was exported"
        changes["patient"] = str(entry.get("patient") or "")
        changes["modality"] = known_modality(str(entry.get("modality") or ""))
        if not case.names:
            changes["names"] = _names(_mapping(entry.get("segments")).items())
        changes["is_as_exported"] = entry.get("label_sha256") == file_sha256(case.label)
        # Of a label that was changed since, nobody knows who did it.
        if changes["is_as_exported"]:
            changes["drawn_by"] = str(entry.get("drawn_by") or "")
    return SetCase(**{**vars(case), **changes})


def _names(stated: Iterable[tuple[Any, Any]]) -> dict[int, str]:
    """Names by voxel value, ascending, without the background; from pairs of both."""
    found = {}
    for name, value in stated:
        if isinstance(value, list):
            raise SetError(f"The label {name!r} is made of several values (a region). Export the single structures.")
        try:
            found[int(value)] = str(name)
        except (TypeError, ValueError) as error:
            raise SetError(f"The label {name!r} has the value {value!r}; a whole number is expected.") from error
    return {value: name for value, name in sorted(found.items()) if value}


def _modality(name: str | None) -> str | None:
    return name if name in ("CT", "MR", "PET") else None


def _split(name: str) -> tuple[str, str]:
    """A file's name and its ending; "" for one that is not read."""
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending) and not name.startswith(".")), "")
    return (name[: len(name) - len(ending)], ending) if ending else (name, "")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise SetError(f"{path.name} cannot be read: it is no JSON.") from error
    return content if isinstance(content, dict) else {}


def _mapping(found: Any) -> Mapping[Any, Any]:
    if not isinstance(found, Mapping):
        raise SetError("dataset.json or the manifest lacks the names of the labels; they are expected as an object.")
    return found


def _list(found: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []
