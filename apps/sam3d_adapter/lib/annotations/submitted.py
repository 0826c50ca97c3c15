"""Submitted labels as cases to learn from, and the reasons why others are left out."""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lib.annotations.label_names import NamesError, is_object_of, label_of, named_values, normal_name
from lib.annotations.made_with import Answer, modality_of_source, modality_of_task, stated_task, tasks_of
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

EMPTY = "it is empty"
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
        tag: of the label.
    """

    image_id: str
    image: Path
    label: Path
    info: Mapping[str, Any] = field(default_factory=dict)
    image_info: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    tag: str = "final"


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
        if content_sha256(self.label) != self.label_sha256:
            raise SubmittedError("its label was replaced in the meantime; the next training takes the new one")
        file = read_label(self.label)
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
    """The labels of a data store for one preset, all sorted by image id.

    Attributes:
        cases: to learn from.
        skipped: left out, and why.
        notes: sentences on what was decided about labels that are learned from.
    """

    cases: tuple[SubmittedCase, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Learner:
    """A preset that is to learn, beside the others that are served.

    Attributes:
        preset: to be trained.
        label_name: the one structure to learn, whatever the preset; None for the preset's.
        presets: all that are served, by name.
        answers: image id -> answers to clicks on it, as far as known.
        modalities: image id -> modality, as far as a manifest tells it.
    """

    preset: Preset
    label_name: str | None = None
    presets: Mapping[str, Preset] = field(default_factory=dict)
    answers: Mapping[str, Sequence[Answer]] = field(default_factory=dict)
    modalities: Mapping[str, str] = field(default_factory=dict)

    @property
    def wanted(self) -> str | None:
        """The one structure to learn; None where all are: the preset segments whatever is clicked on."""
        return self.label_name or (self.preset.label if self.preset.target_label is not None else None)

    @property
    def of_others(self) -> frozenset[str]:
        """Structures that other presets are for."""
        own = {normal_name(label) for label in self.preset.labels}
        return frozenset(normal_name(label) for preset in self.presets.values() for label in preset.labels) - own


def read_submitted(
    labels: Iterable[SavedLabel],
    learner: Learner | None,
    patient_of: Callable[[str, Mapping[str, Any]], Patient],
) -> Submitted:
    """Reads all labels; of the images only headers and checksums.

    A label counts for the presets whose structure and modality it has. A preset with a ``target_label`` learns that one
    structure. Without, it learns to segment whatever is clicked on, so every structure is an object, except those that
    other presets are for. How the modality is found is said in `lib.annotations.made_with`; a label whose modality
    nobody knows counts by its names alone, and a note says so.

    Args:
        labels: final ones.
        learner: the preset that is to be trained; None for everything that is drawn, whoever learns it.
        patient_of: image id and image info -> the patient.
    """
    cases, skipped, notes = [], [], []
    for saved in sorted(labels, key=lambda saved: saved.image_id):
        try:
            if saved.problem:
                raise SubmittedError(saved.problem)
            case, said = _case(saved, learner, patient_of)
            cases.append(case)
            notes += [f"The label of {saved.image_id}: {sentence}" for sentence in said]
        except (SubmittedError, NamesError) as error:
            skipped.append(Skipped(saved.image_id, str(error)))
        except FileNotFoundError:
            skipped.append(Skipped(saved.image_id, "its file, or that of its image, does not exist any more"))
        except (ImageError, OSError, MemoryShortage) as error:
            reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
            skipped.append(Skipped(saved.image_id, reason.rstrip(".")))
    return Submitted(tuple(cases), tuple(skipped), tuple(notes))


def _case(
    saved: SavedLabel, learner: Learner | None, patient_of: Callable[..., Patient]
) -> tuple[SubmittedCase, list[str]]:
    """The case, and what is to be said of it."""
    modality = None
    if learner is not None:
        own = learner.preset.modality
        modality = modality_of_source(saved.image, saved.image_info, learner.modalities)
        if modality and own and modality != own:
            raise SubmittedError(f"its image is {modality}, and {learner.preset.name} is for {own}")
    sha256 = content_sha256(saved.label)
    file = read_label(saved.label)
    values = file.segments()
    if not values:
        raise SubmittedError(EMPTY)
    named = named_values(values, saved.info, file.texts, one_for_all=learner is None or learner.wanted is None)
    objects, said = _objects(named, values, learner)
    if len(objects) > MAX_OBJECTS:
        raise SubmittedError(f"it holds {len(objects)} structures; at most {MAX_OBJECTS} are expected")
    shape, onto = image_grid(saved.image)
    affine = label_affine(saved.label, file.affine, saved.image, onto)
    groups = [file.numbers(group) for _, group in objects]
    placed = on_grid(_numbered(file.voxels, groups), affine, shape, onto)
    reached = box_of(placed)
    if reached is None:
        raise SubmittedError("it lies elsewhere in space than its image")
    if learner is not None and modality is None:
        task = stated_task(saved.info)
        tasks: Collection[str] = {task} if task and task in learner.presets else ()
        if not tasks and (answers := learner.answers.get(saved.image_id)):
            # Of all that is drawn, also of what this preset does not learn.
            everything = [file.numbers((value,)) for value in values[:MAX_OBJECTS]]
            drawn = on_grid(_numbered(file.voxels, everything), affine, shape, onto)
            tasks = tasks_of(answers, drawn, saved_at(saved))
        said += _require_task(learner, tasks)
    held = np.bincount(placed[reached].ravel())
    unions = _unions(groups) or tuple((number,) for number in range(1, len(groups) + 1))
    counts = [sum(int(held[number]) for number in union if number < len(held)) for union in unions]
    kept = [(name, group, count) for (name, _), group, count in zip(objects, groups, counts, strict=True) if count]
    if outside := [name for (name, _), count in zip(objects, counts, strict=True) if not count]:
        said.append(f"{_quoted(outside)} lies outside of the image and is left out.")
    notes = saved.info.get("notes")
    said += [str(note) for note in notes] if isinstance(notes, list) else []
    names, kept_groups, voxels = zip(*kept, strict=True)
    case = SubmittedCase(
        image_id=saved.image_id,
        patient=patient_of(saved.image_id, saved.image_info),
        image=saved.image,
        label=saved.label,
        image_sha256=content_sha256(saved.image),
        label_sha256=sha256,
        names=names,
        values=kept_groups,
        voxels=voxels,
        shape=shape,
        affine=onto,
        saved_at=saved_at(saved),
    )
    return case, said


def _require_task(learner: Learner, tasks: Collection[str]) -> list[str]:
    """Passes if a label counts for a preset by the tasks that it was made with; returns what is to be said of it."""
    preset, words = learner.preset, ", ".join(sorted(tasks))
    modalities = {found for task in tasks if (found := modality_of_task(task, learner.presets))}
    if len(modalities) > 1:
        raise SubmittedError(
            f"clicks of {words} led to it, and nothing says which of them it was submitted under; add "
            f'{{"model": "{min(tasks)}"}}, or the other, to what is kept of it (PUT /datastore/label/info)'
        )
    if modalities and preset.modality:
        if preset.modality not in modalities:
            other = modalities.pop()
            raise SubmittedError(
                f"it was made with {words}, which is for {other}; {preset.name} is for {preset.modality}"
            )
        return []
    if tasks and preset.name not in tasks and learner.wanted is None:
        raise SubmittedError(f"its image was segmented with {words}, not with {preset.name}")
    if tasks or not preset.modality or len({other.modality for other in learner.presets.values()} - {None}) < 2:
        return []
    return [
        f"Nothing tells the modality of its image; it is taken for {preset.modality}. To keep it from the presets of "
        "others, list the image's modality in patients.csv or a manifest, or keep the task with the label."
    ]


def _objects(
    named: list[tuple[str, int]] | None, values: list[int], learner: Learner | None
) -> tuple[list[tuple[str, tuple[int, ...]]], list[str]]:
    """Name and voxel values of each object, and what is to be said of them.

    Each voxel value is an object of its own, numbered or not: nothing is merged.
    """
    wanted = learner.wanted if learner is not None else None
    found: list[tuple[str, tuple[int, ...]]]
    if named is None:
        if wanted is None:
            said = [f"It has no names; each of its {len(values)} values is an object."] if len(values) > 1 else []
            return [(UNNAMED, (value,)) for value in values], said
        if len(values) > 1:
            raise SubmittedError(f"it has {len(values)} structures and no names, so that {wanted!r} is not to be found")
        return [(wanted, (values[0],))], [f"It has no name, and is taken for {wanted!r}."]
    if not named:
        raise SubmittedError("it holds nothing but background")
    if learner is None:
        return [(name, (value,)) for name, value in named], []
    if wanted is None:
        others = learner.of_others
        found = [(name, (value,)) for name, value in named if not {normal_name(name), label_of(name)} & others]
        missing = f"its structures ({_listed(named)}) are those of other presets"
    else:
        found = [(wanted, (value,)) for name, value in named if is_object_of(name, wanted)]
        missing = f"none of its structures ({_listed(named)}) is a {wanted!r}"
    if not found:
        raise SubmittedError(missing)
    left = [name for name, value in named if not any(value in group for _, group in found)]
    said = [f"{_quoted(left)} is left out: {learner.preset.name} does not learn it."] if left else []
    return found, said


def _listed(named: Iterable[tuple[str, int]]) -> str:
    return ", ".join(name[:60] for name, _ in named)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name[:60]}'" for name in names)


def read_label(path: Path) -> LabelFile:
    """Reads the file of a label.

    Raises:
        SubmittedError: no label.
        ImageError: a damaged file; so do OSError and MemoryShortage.
    """
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


def saved_at(saved: SavedLabel) -> float:
    """When a label was saved, seconds since 1970."""
    stated = saved.info.get("ts")
    if isinstance(stated, int | float) and not isinstance(stated, bool) and stated > 0:
        return float(stated) + 1  # the host truncates to whole seconds
    return saved.label.stat().st_mtime


def content_sha256(path: Path) -> str:
    """sha256 of a file, or over the files of a folder, sorted by name."""
    if path.is_dir():
        return hashlib.sha256("".join(content_sha256(file) for file in sorted(path.iterdir())).encode()).hexdigest()
    return file_sha256(path)
