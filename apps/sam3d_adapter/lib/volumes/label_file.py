"""A label's file -> whole numbers in space: one way to read it when it is submitted, learned from or started from."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.geometry.axes import Array
from lib.volumes.itk_formats import read_layers, read_nrrd_header, read_nrrd_texts
from lib.volumes.read import guarded, read_array
from lib.volumes.volume import ImageError, require_frame, require_one_volume
from lib.volumes.whole_numbers import MAX_VALUE, as_whole_numbers

_SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")
_Segment = tuple[int, int]
"""Layer and value in it."""


class NotALabelError(ImageError):
    """The file holds an image: its values are not whole numbers from 0 to `MAX_VALUE`."""


@dataclass(frozen=True, eq=False)
class LabelFile:
    """A label as it is stored.

    Segments of 3D Slicer that overlap lie in layers of one ``.seg.nrrd`` file, and may have the same value in several.
    They are numbered from 1 in the order of the header. Each set of segments that some voxel belongs to has a number
    as well; these numbers are the voxels.

    Attributes:
        voxels: (i, j, k), whole numbers from 0.
        affine: (4, 4), voxel index to RAS mm.
        texts: of an NRRD file the ``key:=value`` lines of its header; of layers the names of the segments alone, each
            with its number as ``LabelValue``.
        overlaps: of layers, by segment, the voxels' numbers that belong to it; None where each value is a segment.
    """

    voxels: np.ndarray
    affine: Array
    texts: Mapping[str, str] = field(default_factory=dict)
    overlaps: Mapping[int, tuple[int, ...]] | None = None

    def segments(self) -> list[int]:
        """The segments that have voxels, ascending."""
        if self.overlaps is None:
            return [int(value) for value in np.unique(self.voxels) if value]
        return sorted(segment for segment, numbers in self.overlaps.items() if numbers)

    def numbers(self, segments: Collection[int]) -> tuple[int, ...]:
        """The voxels' numbers that belong to any of some segments."""
        if self.overlaps is None:
            return tuple(segments)
        return tuple(sorted({number for segment in segments for number in self.overlaps[segment]}))


def read_label_file(path: Path) -> LabelFile:
    """Reads a label. What passes here is never refused later for what its file is.

    Raises:
        NotALabelError: it is an image.
        ImageError: a file that cannot be read, no single volume, one without a position in space, or layers without
            names.
        MemoryShortage: too large for this server at the moment.
        FileNotFoundError: no such file.
    """
    is_nrrd = path.suffix.lower() == ".nrrd"
    with guarded(path):
        texts = read_nrrd_texts(path) if is_nrrd else {}
        if is_nrrd and read_nrrd_header(path).layers > 1:
            return _read_layers(path, texts)
    array, affine = read_array(path)
    require_one_volume(array.shape, path.name)
    require_frame(affine, path.name)
    whole = _whole(array.reshape(array.shape[:3], order="A"), path)
    return LabelFile(whole, affine, texts)


def _read_layers(path: Path, texts: Mapping[str, str]) -> LabelFile:
    named = _named_segments(texts)
    if not named:
        raise ImageError(
            f"Image {path.name} has several layers, and no names of segments in its header. Save the segmentation in "
            "3D Slicer (.seg.nrrd), or as one layer."
        )
    array, affine = read_layers(path)
    require_one_volume(array.shape[:3], path.name)
    require_frame(affine, path.name)
    layers = _whole(array, path)
    inside = np.nonzero(layers.any(axis=3))
    rows, sets = _distinct(layers[inside])
    if len(rows) > MAX_VALUE:
        raise ImageError(f"Image {path.name} has segments that overlap in {len(rows)} ways. Save fewer in one file.")
    voxels = np.zeros(layers.shape[:3], np.uint16, order="F")
    voxels[inside] = sets + 1
    found = {(layer, int(value)) for layer, column in enumerate(rows.T) for value in np.unique(column) if value}
    if nameless := sorted(found - set(named)):
        raise ImageError(
            f"Image {path.name} has voxels of value {nameless[0][1]} in layer {nameless[0][0]}, which its header does "
            "not name. Save the segmentation in 3D Slicer once more."
        )
    overlaps: dict[int, tuple[int, ...]] = {}
    names: dict[str, str] = {}
    for number, ((layer, value), name) in enumerate(named.items(), start=1):
        belongs = np.flatnonzero(rows[:, layer] == value) + 1 if layer < rows.shape[1] else ()
        overlaps[number] = tuple(int(each) for each in belongs)
        names |= {f"Segment{number}_Name": name, f"Segment{number}_LabelValue": str(number)}
    return LabelFile(voxels, affine, names, overlaps)


def _named_segments(texts: Mapping[str, str]) -> dict[_Segment, str]:
    """Name of each segment that an NRRD file's header names, in its order."""
    stated: dict[int, dict[str, str]] = {}
    for key, text in texts.items():
        if found := _SEGMENT.fullmatch(key):
            stated.setdefault(int(found[1]), {})[found[2]] = text.strip()
    named = [stated[number] for number in sorted(stated) if stated[number].keys() >= {"Name", "LabelValue"}]
    for segment in named:
        segment.setdefault("Layer", "0")
        if not (segment["LabelValue"].isdecimal() and segment["Layer"].isdecimal()):
            raise ImageError("The label's header states a LabelValue or Layer that is no whole number. Save it again.")
    return {(int(segment["Layer"]), int(segment["LabelValue"])): segment["Name"] for segment in named}


def _distinct(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of (N, layers), and for each voxel its row: as ``np.unique`` does, at a tenth of its time."""
    rows, places = np.zeros((1, 0), voxels.dtype), np.zeros(len(voxels), np.int64)
    for layer in voxels.T:
        found, places = np.unique(places * (MAX_VALUE + 1) + layer, return_inverse=True)
        before, value = np.divmod(found, MAX_VALUE + 1)
        rows = np.column_stack([rows[before], value])
    return rows, places


def _whole(array: np.ndarray, path: Path) -> np.ndarray:
    whole = as_whole_numbers(array)
    if whole is None:
        raise NotALabelError(
            f"The file {path.name} holds an image, not a label: its values are not whole numbers from 0 to "
            f"{MAX_VALUE}. Send the segmentation, exported as a label map."
        )
    return whole
