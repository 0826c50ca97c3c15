"""Label maps on disk: a folder ``labelmaps_*`` each, with ``manifest.json`` and the files it names."""

import json
from collections.abc import Sequence
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


def find_label_maps(files: Sequence[Path]) -> list[LabelMapFile]:
    """The label maps with the names of their values, sorted by path.

    Args:
        files: Below ``labelmaps_*/labels``; ``labelmaps_*/manifest.json`` names the values of each.

    Raises:
        LabelMapError: There is no file, or a manifest is missing or does not list one.
    """
    if not files:
        raise LabelMapError("No label map was given.")
    found = []
    for folder in sorted({file.parents[1] for file in files}):
        manifest = folder / "manifest.json"
        try:
            cases = {
                case["label"]: case["labels"] for case in json.loads(manifest.read_text(encoding="utf-8"))["cases"]
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LabelMapError(f"{manifest} cannot be read ({error}); it has to name the label values.") from error
        for file in sorted(file for file in files if file.parents[1] == folder):
            labels = cases.get(f"{file.parent.name}/{file.name}")
            if labels is None:
                raise LabelMapError(f"{manifest} does not list {file.parent.name}/{file.name}.")
            names = tuple((int(value), name) for value, name in labels.items())
            found.append(LabelMapFile(file, names, folder.name.removeprefix("labelmaps_")))
    return found


def read_label_map(file: LabelMapFile) -> LabelMap:
    """Reads a label map; its axes are permuted and flipped to the nearest right, front, top."""
    image = nib.as_closest_canonical(nib.load(file.path))
    x, y, z = (float(side) for side in image.header.get_zooms()[:3])
    return LabelMap(np.asarray(image.dataobj).astype(np.int32), (x, y, z), dict(file.names))
