"""Agreement between readers who labelled the same image: Dice and surface Dice, structure by structure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from lib.annotations.label_names import label_of, named_values
from lib.annotations.submitted import UNNAMED, read_label
from lib.evaluation.metrics import dice, surface_dice
from lib.geometry.axes import Array
from lib.studies.folder import StudiesFolder
from lib.volumes.label_grid import image_grid, label_affine, on_grid
from lib.workflow.reviews import author_of, is_reviewed

TOLERANCE_MM = 2.0


@dataclass(frozen=True)
class Reading:
    """What a reader drew on an image.

    Attributes:
        reader: name.
        label: the file.
        info: what is kept beside it.
    """

    reader: str
    label: Path
    info: Mapping[str, Any]


@dataclass(frozen=True)
class Agreement:
    """How far two readers agree on a structure.

    Attributes:
        structure: name, without the numbers of instances.
        readers: the two.
        dice: 0 to 1; 0 where one of them did not draw it.
        surface_dice: share of both surfaces within `TOLERANCE_MM` of the other.
    """

    structure: str
    readers: tuple[str, str]
    dice: float
    surface_dice: float


def agreement_in(folder: StudiesFolder, image: str) -> list[Agreement]:
    """Every pair of readers of an image; empty where fewer than two are known by name.

    Raises:
        SubmittedError: a file is no label; so do NamesError, ImageError, OSError and MemoryShortage.
    """
    readings = readings_of(folder, image)
    if len(readings) < 2:
        return []
    return agreement(folder.images / f"{image}{folder.index()['objects'][image]['image']['ext']}", readings)


def readings_of(folder: StudiesFolder, image: str) -> list[Reading]:
    """Of each reader the label that he submitted last, sorted by name."""
    found = {}
    for change in folder.history(image):
        former = folder.former(change)
        if change.old is not None and former is not None and is_reviewed(change.tag):
            reader = author_of(change.old["info"])
            found[_key(reader)] = Reading(reader, former, change.old["info"])
    current = [
        (entry["info"].get("ts") or 0, tag, entry)
        for tag, entry in folder.index()["objects"][image]["labels"].items()
        if is_reviewed(tag)
    ]
    for _, tag, entry in sorted(current, key=lambda one: one[:2]):
        reader = author_of(entry["info"])
        found[_key(reader)] = Reading(reader, folder.labels / tag / f"{image}{entry['ext']}", entry["info"])
    found.pop("", None)
    return [found[key] for key in sorted(found)]


def agreement(image: Path, readings: Sequence[Reading]) -> list[Agreement]:
    """Compares every pair of readers, on the voxels of their image.

    Args:
        image: the file.
        readings: of different readers.
    """
    shape, onto = image_grid(image)
    spacing = np.linalg.norm(onto[:3, :3], axis=0)
    drawn = [(reading.reader, _structures(reading, image, shape, onto)) for reading in readings]
    found = []
    for (one, first), (other, second) in combinations(drawn, 2):
        for structure in sorted(first.keys() | second.keys()):
            masks = first.get(structure), second.get(structure)
            scores = (0.0, 0.0)
            if masks[0] is not None and masks[1] is not None:
                (surface,) = surface_dice(masks[0], masks[1], list(spacing), (TOLERANCE_MM,))
                scores = dice(masks[0], masks[1]), surface
            found.append(Agreement(structure, (one, other), *scores))
    return found


def mean_agreement(found: Sequence[Agreement]) -> list[tuple[Agreement, int]]:
    """The mean over images of each pair and structure, and over how many."""
    groups: dict[tuple[str, tuple[str, str]], list[Agreement]] = {}
    for one in found:
        groups.setdefault((one.structure, one.readers), []).append(one)
    means = []
    for (structure, readers), group in sorted(groups.items()):
        scores = (float(np.mean([one.dice for one in group])), float(np.mean([one.surface_dice for one in group])))
        means.append((Agreement(structure, readers, *scores), len(group)))
    return means


def _structures(reading: Reading, image: Path, shape: tuple[int, int, int], onto: Array) -> dict[str, np.ndarray]:
    file = read_label(reading.label)
    values = file.segments()
    named = named_values(values, reading.info, file.texts, one_for_all=True)
    groups: dict[str, list[int]] = {}
    for name, value in named if named is not None else [(UNNAMED, value) for value in values]:
        groups.setdefault(label_of(name), []).append(value)
    voxels = on_grid(file.voxels, label_affine(reading.label, file.affine, image, onto), shape, onto)
    masks = {name: np.isin(voxels, file.numbers(group)) for name, group in groups.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _key(reader: str) -> str:
    return " ".join(reader.split()).casefold()
