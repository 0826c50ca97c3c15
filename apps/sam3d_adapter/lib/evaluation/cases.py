"""What is evaluated: images with their labels, from two folders, a manifest, or a folder of MONAI Label's studies."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.evaluation.simulated_user import Mask
from lib.geometry.axes import spacing_of
from lib.volumes.nifti import is_on_same_voxels
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError, Volume
from lib.volumes.whole_numbers import WHOLE_TOLERANCE

ENDINGS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha")
"""The longer before the one that it ends with: 3D Slicer saves segmentations as ``.seg.nrrd``."""
# Where labels usually lie, seen from the folder of images: MONAI Label's own place, then the customary ones.
LABEL_FOLDERS = ("labels/final", "../labels", "../labelsTr")
_GRID_TOLERANCE_MM = 1e-2


class DataError(ValueError):
    """Data that cannot be evaluated: what is wrong, and what to do."""


@dataclass(frozen=True)
class Source:
    """An image and its label file, not read yet.

    Attributes:
        name: of the image; the id of its one case, or the start of those of several.
        value: of the object in the label; None where everything above 0 is the object.
        modality: as the manifest says, or None.
        split: as the manifest says, or None.
    """

    name: str
    image: Path
    label: Path
    patient: str
    dataset: str
    value: int | None = None
    modality: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Unpaired:
    """Volumes of two folders that stand alone, by name.

    Attributes:
        images: that have no label.
        labels: that have no image.
    """

    images: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One object in one image.

    Attributes:
        id: unique in a run.
        source: its files.
        value: of the object in the label; None where everything above 0 is the object.
        shape: voxels along i, j, k.
        spacing: mm along i, j, k.
        object_voxels: 1 or more.
        image_sha256: of the file's bytes.
        label_sha256: the same.
    """

    id: str
    source: Source
    value: int | None
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    object_voxels: int
    image_sha256: str
    label_sha256: str

    @property
    def data_hash(self) -> str:
        """sha256 of all that makes the case: its id, its two files and the value."""
        parts = (self.id, self.image_sha256, self.label_sha256, self.value)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def from_folders(images: Path, labels: Path | None = None, *, dataset: str | None = None) -> list[Source]:
    """Pairs of equal names.

    Args:
        images: a folder; of other files than volumes, and of images without label, nothing is made.
        labels: a folder; None to look in ``LABEL_FOLDERS``.
        dataset: name of the whole; None for the folder's.

    Raises:
        DataError: no folder, no pair, or two files of one name.
    """
    labels = _folder_of_labels(images, labels)
    volumes, truths = _volumes(images), _volumes(labels)
    both = sorted(volumes.keys() & truths.keys())
    if not both:
        raise DataError(
            f"No image in {images} ({len(volumes)} volumes) has a label of the same name in {labels} ({len(truths)}). "
            f"Volumes end with {', '.join(ENDINGS)}."
        )
    home = images.resolve()
    dataset = dataset or (home.parent.name if home.name.startswith("images") else home.name)
    return [Source(name, volumes[name], truths[name], patient=name, dataset=dataset) for name in both]


def unpaired(images: Path, labels: Path | None = None) -> Unpaired:
    """What `from_folders` makes nothing of.

    Raises:
        DataError: no folder, or two files of one name.
    """
    volumes, truths = _volumes(images), _volumes(_folder_of_labels(images, labels))
    return Unpaired(tuple(sorted(volumes.keys() - truths.keys())), tuple(sorted(truths.keys() - volumes.keys())))


def with_patients(sources: Sequence[Source], pattern: str | None) -> list[Source]:
    """The sources, their patient being what a pattern finds in the name: its first group, or all of it.

    Raises:
        DataError: no pattern, or one that does not occur in a name.
    """
    if pattern is None:
        return list(sources)
    found = []
    for source in sources:
        try:
            match = re.search(pattern, source.name)
        except re.error as error:
            raise DataError(f"The pattern of patients {pattern!r} is none: {error}.") from error
        if match is None:
            raise DataError(f"The pattern of patients {pattern!r} does not occur in the name {source.name!r}.")
        patient = match[1] if match.re.groups else match[0]
        if not patient:
            raise DataError(f"The pattern of patients {pattern!r} finds nothing in the name {source.name!r}.")
        found.append(Source(**{**source.__dict__, "patient": patient}))
    return found


def inspect(source: Source, *, labels_are_objects: bool = False) -> tuple[list[Case], int]:
    """Reads the label and compares its grid with the image's.

    Args:
        source: the two files.
        labels_are_objects: whether each value of the label is a case of its own.

    Returns:
        The cases, and how many were left out because they have no voxel.

    Raises:
        DataError: an unreadable label, one on another grid than its image's, or one whose values are to be told apart
            and are no whole numbers.
    """
    label = _read_label(source)
    _require_one_grid(source, label)
    values = np.asarray(label.voxels)
    spacing = tuple(float(length) for length in spacing_of(label.affine))
    hashes = _sha256(source.image), _sha256(source.label)
    cases = []
    wanted: list[int | None] = [source.value]
    if source.value is None and labels_are_objects:
        wanted = list(_whole_values(source, values)) or [None]
    for value in wanted:
        voxels = int(np.count_nonzero(_object(values, value)))
        name = source.name if value is None else f"{source.name}/{value}"
        if voxels:
            cases.append(Case(name, source, value, values.shape, spacing, voxels, *hashes))  # type: ignore[arg-type]
    return cases, len(wanted) - len(cases)


def read_truth(case: Case) -> Mask:
    """The object (i, j, k) bool.

    Raises:
        DataError: an unreadable label.
    """
    return _object(np.asarray(_read_label(case.source).voxels), case.value)


def data_hash(cases: Sequence[Case]) -> str:
    """sha256 of all cases, whatever their order."""
    return hashlib.sha256("".join(sorted(case.data_hash for case in cases)).encode()).hexdigest()


def split_hash(cases: Sequence[Case]) -> str:
    """sha256 of who is in it: ids and patients, whatever their order."""
    parts = sorted((case.id, case.source.patient, case.source.dataset) for case in cases)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _object(values: np.ndarray, value: int | None) -> Mask:
    if value is None:
        return np.asarray(values > 0)
    # Whole numbers are compared as they are: of a large label, floats would take up to eight times its memory.
    is_whole = values.dtype.kind in "biu"
    return np.asarray(values == value if is_whole else np.isclose(values, value, rtol=0, atol=WHOLE_TOLERANCE))


def _whole_values(source: Source, values: np.ndarray) -> list[int]:
    """Those above 0, ascending."""
    found = np.unique(values[values > 0])
    odd = found[np.abs(found - np.rint(found)) > WHOLE_TOLERANCE]
    if len(odd):
        raise DataError(f"The label of {source.name} holds {odd[0]:g}; each object needs a whole number of its own.")
    return sorted({int(value) for value in np.rint(found) if value > 0})


def _read_label(source: Source) -> Volume:
    try:
        return read_volume(source.label)
    except (ImageError, OSError) as error:
        raise DataError(f"The label of {source.name} cannot be used. {error}") from error


def _require_one_grid(source: Source, label: Volume) -> None:
    try:
        image = read_volume(source.image)
    except (ImageError, OSError):
        return  # the task will refuse it too, and the case counts as failed
    if image.voxels.shape != label.voxels.shape:
        shapes = (" x ".join(map(str, volume.voxels.shape)) for volume in (label, image))
        raise DataError("The label of {} has {} voxels, its image {}. Mend or remove it.".format(source.name, *shapes))
    is_one = np.allclose(image.affine, label.affine, atol=_GRID_TOLERANCE_MM)
    if not is_one and not is_on_same_voxels(source.label, source.image):
        raise DataError(f"The label of {source.name} lies elsewhere in space than its image. Mend or remove it.")


def _folder_of_labels(images: Path, labels: Path | None) -> Path:
    if str(images).lower().startswith(("http:/", "https:/")):
        raise DataError(
            f"{images} is an address; a folder is expected. Of a DICOMweb server that is the cache that MONAI Label "
            "keeps of it, below ~/.cache/monailabel/dicom or MONAI_LABEL_DICOMWEB_CACHE_PATH, with the series that "
            "were opened."
        )
    if not images.is_dir():
        raise DataError(f"The folder of images {images} does not exist.")
    if labels is None:
        found = [images / place for place in LABEL_FOLDERS if (images / place).is_dir()]
        if not found:
            raise DataError(f"No labels given, and none of {', '.join(LABEL_FOLDERS)} lies in {images}.")
        labels = found[0]
    if not labels.is_dir():
        raise DataError(f"The folder of labels {labels} does not exist.")
    return labels


def _volumes(folder: Path) -> dict[str, Path]:
    volumes: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)
        # macOS lays companions of files beside them on other disks: ._a.nii.gz.
        if ending is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name[: -len(ending)]
        if name in volumes:
            raise DataError(f"{folder} holds {volumes[name].name} and {path.name}; one volume of a name is expected.")
        volumes[name] = path
    return volumes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
