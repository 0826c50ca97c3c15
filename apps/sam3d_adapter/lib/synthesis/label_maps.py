"""Label maps on disk: a folder ``labelmaps_*`` each, with ``manifest.json`` and the files it names."""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

Array = np.ndarray


class LabelMapError(ValueError):
    """Label maps that cannot be read."""


@dataclass(frozen=True)
class LabelMapFile:
    """A label map that is not read yet.

    Attributes:
        path: NIfTI file.
        names: (value, name) of each label.
        collection: Name of its folder without ``labelmaps_``.
    """

    path: Path
    names: tuple[tuple[int, str], ...]
    collection: str


@dataclass(frozen=True)
class LabelMap:
    """A label map with axes to the right, front and top.

    Attributes:
        values: (x, y, z) labels.
        spacing: mm along x, y, z.
        names: Name of each label value.
    """

    values: Array
    spacing: tuple[float, float, float]
    names: dict[int, str]


def find_label_maps(folder: Path) -> list[LabelMapFile]:
    """The label maps of a data folder, sorted by path.

    Raises:
        LabelMapError: There is none.
    """
    found = []
    for manifest in sorted(folder.glob("labelmaps_*/manifest.json")):
        for case in json.loads(manifest.read_text(encoding="utf-8"))["cases"]:
            names = tuple((int(value), name) for value, name in case["labels"].items())
            collection = manifest.parent.name.removeprefix("labelmaps_")
            found.append(LabelMapFile(manifest.parent / case["label"], names, collection))
    if not found:
        raise LabelMapError(f"{folder}: no labelmaps_*/manifest.json. Give the folder that holds labelmaps_trunk etc.")
    return sorted(found, key=lambda file: file.path)


def read_label_map(file: LabelMapFile) -> LabelMap:
    """Reads a label map; its axes are permuted and flipped to the nearest right, front, top."""
    image = nib.as_closest_canonical(nib.load(file.path))
    x, y, z = (float(side) for side in image.header.get_zooms()[:3])
    return LabelMap(np.asarray(image.dataobj).astype(np.int32), (x, y, z), dict(file.names))
