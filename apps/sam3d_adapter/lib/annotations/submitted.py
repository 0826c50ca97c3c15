"""Submitted labels as cases to learn from, and the reasons why others are left out."""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lib.annotations.label_names import NamesError, named_values, normal_name
from lib.annotations.patients import Patient
from lib.files.checksums import file_sha256
from lib.geometry.axes import Array
from lib.presets import Preset
from lib.training.sampling import Volume
from lib.volumes.label_file import LabelFile, NotALabelError, read_label_file
from lib.volumes.label_grid import box_of, image_grid, label_affine, on_grid
from lib.volumes.memory import MemoryShortage
from lib.volumes.read import read_volume
from lib.volumes.volume import ImageError

logger = logging.getLogger(__name__)

UNNAMED = "structure"
"""Name of an object that the label does not name."""
MAX_OBJECTS = 255
"""Most objects in one image: labels are bytes."""


class SubmittedError(ValueError):
    """A label cannot be learned from; the text completes the sentence "... is left out: "."""


@dataclass(frozen=True)
class SavedLabel:
    """A final label in a data store, not read yet.

    Attributes:
        image_id: of its image.
        image: the image's file.
        label: the label's file.
        info: what the data store keeps of the label.
        image_info: what it keeps of the image.
        problem: why it cannot be learned from, if the data store knows; a reason as in `SubmittedError`.
    """

    image_id: str
    image: Path
    label: Path
    info: Mapping[str, Any] = field(default_factory=dict)
    image_info: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class SubmittedCase:
    """An image and the objects to segment in it.

    Attributes:
        image_id: of the data store.
        patient: shown in the image.
        image: the image's file.
        label: the label's file.
        image_sha256: of the file when the case was listed.
        label_sha256: likewise.
        names: of the objects; the n-th (from 1) has the value n in `Volume.labels`.
        values: by object, its numbers in `LabelFile.voxels`: the file's own, unless segments overlap.
        voxels: by object, on the image's grid.
        shape: of the image, along i, j, k.
        affine: (4, 4), of the image, voxel index to RAS mm.
        saved_at: seconds since 1970.
    """

    image_id: str
    patient: Patient
    image: Path
    label: Path
    image_sha256: str
    label_sha256: str
    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    voxels: tuple[int, ...]
    shape: tuple[int, int, int]
    affine: Array = field(compare=False, repr=False)
    saved_at: float

    def read(self) -> Volume:
        """Image and labels.

        Raises:
            SubmittedError: the label was replaced since the case was listed.
            ImageError: a damaged file; so do OSError and MemoryShortage.
        """
        image = read_volume(self.image)
        voxels = image.voxels.numpy()
        if voxels.shape != self.shape:
            raise SubmittedError("its image was replaced in the meantime")
        # Replace non-finite voxels, or interpolation would spread them.
        if voxels.dtype.kind == "f" and not (finite := np.isfinite(voxels)).all():
            voxels = np.where(finite, voxels, voxels[finite].min(initial=0)).astype(voxels.dtype)
        return Volume(voxels, self.read_labels(), image.affine, self.unions)

    @property
    def unions(self) -> tuple[tuple[int, ...], ...] | None:
        """By object, its numbers in `read_labels`; None where each object is one number, its own."""
        return _unions(self.values)

    def mask(self, labels: np.ndarray, number: int) -> np.ndarray:
        """Where an object is, bool.

        Args:
            labels: from `read_labels`.
            number: of the object, from 1.
        """
        return labels == number if self.unions is None else np.isin(labels, self.unions[number - 1])

    def read_labels(self) -> np.ndarray:
        """(i, j, k) uint8 on the image's grid: 0, or the number of an object; of objects that overlap, see `unions`.

        Raises:
            SubmittedError: the label was replaced since the case was listed.
            ImageError: a damaged file; so do OSError and MemoryShortage.
        """
        if _sha256(self.label) != self.label_sha256:
            raise SubmittedError("its label was replaced in the meantime; the next training takes the new one")
        file = _read_label(self.label)
        affine = label_affine(self.label, file.affine, self.image, self.affine)
        return on_grid(_numbered(file.voxels, self.values), affine, self.shape, self.affine)


@dataclass(frozen=True)
class Skipped:
    """A label that is left out."""

    image_id: str
    reason: str

    @property
    def sentence(self) -> str:
        """One sentence for the log and the versions page."""
        return f"The label of {self.image_id} is left out: {self.reason}."


@dataclass(frozen=True)
class Submitted:
    """The labels of a data store for one preset, both sorted by image id."""

    cases: tuple[SubmittedCase, ...]
    skipped: tuple[Skipped, ...]


def read_submitted(
    labels: Iterable[SavedLabel],
    preset: Preset,
    patient_of: Callable[[str, Mapping[str, Any]], Patient],
    *,
    label_name: str | None = None,
    made_with: Mapping[str, Collection[str]] | None = None,
) -> Submitted:
    """Reads all labels; of the images only headers and checksums.

    Args:
        labels: final ones.
        preset: to be trained. With a ``target_label`` it learns that one structure. Without, it learns to segment
            whatever is clicked on, so every structure is an object.
        patient_of: image id and image info -> the patient.
        label_name: the one structure to learn, whatever the preset.
        made_with: image id -> names of the presets that answered clicks on it, as far as known. A preset that learns
            every structure skips images on which only other presets answered: they show another modality.
    """
    wanted = label_name or (preset.label if preset.target_label is not None else None)
    cases, skipped = [], []
    for saved in sorted(labels, key=lambda saved: saved.image_id):
        try:
            used = (made_with or {}).get(saved.image_id, ())
            if wanted is None and used and preset.name not in used:
                raise SubmittedError(f"its image was segmented with {', '.join(sorted(used))}, not with {preset.name}")
            if saved.problem:
                raise SubmittedError(saved.problem)
            cases.append(_case(saved, wanted, patient_of))
        except (SubmittedError, NamesError) as error:
            skipped.append(Skipped(saved.image_id, str(error)))
        except FileNotFoundError:
            skipped.append(Skipped(saved.image_id, "its file, or that of its image, does not exist any more"))
        except (ImageError, OSError, MemoryShortage) as error:
            reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
            skipped.append(Skipped(saved.image_id, reason.rstrip(".")))
    return Submitted(tuple(cases), tuple(skipped))


def _case(saved: SavedLabel, wanted: str | None, patient_of: Callable[..., Patient]) -> SubmittedCase:
    sha256 = _sha256(saved.label)
    file = _read_label(saved.label)
    values = file.segments()
    if not values:
        raise SubmittedError("it is empty")
    named = named_values(values, saved.info, file.texts, one_for_all=wanted is None)
    objects = _objects(named, values, wanted)
    if len(objects) > MAX_OBJECTS:
        raise SubmittedError(f"it holds {len(objects)} structures; at most {MAX_OBJECTS} are expected")
    shape, onto = image_grid(saved.image)
    affine = label_affine(saved.label, file.affine, saved.image, onto)
    groups = [file.numbers(group) for _, group in objects]
    placed = on_grid(_numbered(file.voxels, groups), affine, shape, onto)
    reached = box_of(placed)
    if reached is None:
        raise SubmittedError("it lies elsewhere in space than its image")
    held = np.bincount(placed[reached].ravel())
    unions = _unions(groups) or tuple((number,) for number in range(1, len(groups) + 1))
    counts = [sum(int(held[number]) for number in union if number < len(held)) for union in unions]
    kept = [(name, group, count) for (name, _), group, count in zip(objects, groups, counts, strict=True) if count]
    names, kept_groups, voxels = zip(*kept, strict=True)
    return SubmittedCase(
        image_id=saved.image_id,
        patient=patient_of(saved.image_id, saved.image_info),
        image=saved.image,
        label=saved.label,
        image_sha256=_sha256(saved.image),
        label_sha256=sha256,
        names=names,
        values=kept_groups,
        voxels=voxels,
        shape=shape,
        affine=onto,
        saved_at=_saved_at(saved),
    )


def _objects(
    named: list[tuple[str, int]] | None, values: list[int], wanted: str | None
) -> list[tuple[str, tuple[int, ...]]]:
    """Name and voxel values of each object."""
    if named is None:
        if wanted is None:
            # As in an evaluation: every value above 0 is the object.
            return [(UNNAMED, tuple(values))]
        if len(values) > 1:
            raise SubmittedError(f"it has {len(values)} structures and no names, so that {wanted!r} is not to be found")
        return [(wanted, (values[0],))]
    if not named:
        raise SubmittedError("it holds nothing but background")
    if wanted is None:
        by_name: dict[str, tuple[int, ...]] = {}
        for name, value in named:
            by_name[name] = (*by_name.get(name, ()), value)
        return list(by_name.items())
    found = tuple(value for name, value in named if normal_name(name) == normal_name(wanted))
    if not found:
        raise SubmittedError(f"none of its structures ({', '.join(name[:60] for name, _ in named)}) is a {wanted!r}")
    return [(wanted, found)]


def _read_label(path: Path) -> LabelFile:
    try:
        return read_label_file(path)
    except NotALabelError as error:
        raise SubmittedError(
            "its values are not whole numbers from 0 on, so that it is an image and no label"
        ) from error


def _parts(groups: Sequence[Collection[int]]) -> list[tuple[int, ...]]:
    """The numbers of a label's voxels that are told apart: each group as one, or each number where groups overlap."""
    numbers = [number for group in groups for number in group]
    if len(set(numbers)) == len(numbers):
        return [tuple(group) for group in groups]
    return [(number,) for number in sorted(set(numbers))]


def _unions(groups: Sequence[Collection[int]]) -> tuple[tuple[int, ...], ...] | None:
    """By group, the ranks of its parts from 1; None where each group is a part."""
    parts = _parts(groups)
    if len(parts) == len(groups) and all(set(part) == set(group) for part, group in zip(parts, groups, strict=True)):
        return None
    ranks = {part[0]: rank for rank, part in enumerate(parts, start=1)}
    return tuple(tuple(ranks[number] for number in sorted(group)) for group in groups)


def _numbered(labels: np.ndarray, groups: Sequence[Collection[int]]) -> np.ndarray:
    """The ranks of the parts from 1, uint8 where they fit."""
    parts = _parts(groups)
    numbered = np.zeros(labels.shape, np.uint8 if len(parts) <= MAX_OBJECTS else np.uint16)
    if (box := box_of(labels)) is not None:
        ranks = np.zeros(int(labels.max()) + 1, numbered.dtype)
        for rank, part in enumerate(parts, start=1):
            ranks[list(part)] = rank
        numbered[box] = ranks[labels[box]]
    return numbered


def _saved_at(saved: SavedLabel) -> float:
    stated = saved.info.get("ts")
    if isinstance(stated, int | float) and not isinstance(stated, bool) and stated > 0:
        return float(stated) + 1  # the host truncates to whole seconds
    return saved.label.stat().st_mtime


def _sha256(path: Path) -> str:
    """sha256 of a file, or over the files of a folder, sorted by name."""
    if path.is_dir():
        return hashlib.sha256("".join(_sha256(file) for file in sorted(path.iterdir())).encode()).hexdigest()
    return file_sha256(path)
