"""A DICOM SEG of any program -> its segments in space, by name; or why it cannot be learned from."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from lib.annotations.label_names import label_of, normal_name
from lib.annotations.slice_gaps import require_filled
from lib.geometry.axes import Array
from lib.volumes.label_grid import image_grid

BINARY, FRACTIONAL, LABELMAP = KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")
PROGRAM = "sam3d_adapter"
_OF_MONAI_LABEL = "MONAILABEL"
"""What it writes itself, as earlier releases left it."""
NO_STRUCTURE = "none of its segments has the name of a structure that is segmented here"
NO_IMAGE = "it does not say which image it was drawn on"
_OFF_SLICE = 0.1
"""Slices, or voxels in a slice, by which a frame may lie beside its place: positions are rounded."""
_HALF = 0.5
"""Share of a voxel, or probability, above which it belongs to a segment."""


@dataclass(frozen=True)
class Segments:
    """Segments of a DICOM SEG on the slices that they are on.

    Attributes:
        masks: by segment, (k, j, i) bool.
        grid: an image of this size in its place; its voxels mean nothing.
    """

    masks: Sequence[np.ndarray]
    grid: sitk.Image

    @property
    def overlap(self) -> bool:
        """Whether some voxel belongs to several."""
        return len(self.masks) > 1 and bool((np.sum(self.masks, axis=0, dtype=np.uint16) > 1).any())

    def label_map(self) -> sitk.Image:
        """The segments numbered from 1.

        Raises:
            ValueError: they overlap.
        """
        if self.overlap:
            raise ValueError("its segments overlap")
        labels = np.zeros(self.masks[0].shape, np.uint8)
        for value, mask in enumerate(self.masks, start=1):
            labels[mask] = value
        return self._placed(sitk.GetImageFromArray(labels))

    def layers(self) -> sitk.Image:
        """Each segment as a layer of its own, as 3D Slicer stores segments that overlap."""
        layers = [self._placed(sitk.GetImageFromArray(mask.astype(np.uint8))) for mask in self.masks]
        return sitk.Compose(layers)

    def _placed(self, image: sitk.Image) -> sitk.Image:
        image.CopyInformation(self.grid)
        return image


def write_seg(seg: Dataset, file: Path, names: Collection[str], image: Path) -> list[str]:
    """Writes the segments of a DICOM SEG that have one of these names as NRRD, their names in its header.

    A segment has frames only where something is drawn, so slices without one are empty, even between others.

    Args:
        seg: with its frames.
        file: ``.nrrd``.
        names: as `lib.annotations.label_names.normal_name` gives them.
        image: the file of its image.

    Returns:
        Sentences on what was decided.

    Raises:
        ValueError: no DICOM SEG that can be read, frames that lie on no slices, nothing drawn, or gaps.
    """
    wanted = {number: name for number, name in segment_names(seg).items() if is_wanted(name, names)}
    found = read_segments(seg, wanted, image)
    said = []
    for name, mask in zip(wanted.values(), found.masks, strict=True):
        said += require_filled(mask.astype(np.uint8), [(name, (1,))])
    if not any(mask.any() for mask in found.masks):
        raise ValueError("nothing is drawn in it")
    if seg.get("SegmentationType") == FRACTIONAL:
        said.append("Its DICOM SEG is fractional; what is more than half belongs to the structure.")
    if others := [name for name in segment_names(seg).values() if not is_wanted(name, names)]:
        listed = ", ".join(f"'{name[:60]}'" for name in others[:8])
        said.append(f"Of its DICOM SEG {listed} is left out: no task here has that structure.")
    is_layered = found.overlap
    written = found.layers() if is_layered else found.label_map()
    for rank, name in enumerate(wanted.values()):
        value, layer = (1, rank) if is_layered else (rank + 1, 0)
        for key, text in {"Name": name, "LabelValue": value, "Layer": layer}.items():
            written.SetMetaData(f"Segment{rank}_{key}", str(text))
    sitk.WriteImage(written, str(file), True)
    return said


def read_segments(seg: Dataset, wanted: Iterable[int], image: Path) -> Segments:
    """Segments of a DICOM SEG, on the slices they are on.

    Args:
        seg: with its frames.
        wanted: numbers of segments, one at least.
        image: the file of its image.

    Raises:
        ValueError: no DICOM SEG that can be read, or frames that lie on no slices.
    """
    kind = str(seg.get("SegmentationType"))
    if kind not in KINDS:
        raise ValueError(f"its type is {kind[:20]!r}, of which nothing is known; {', '.join(KINDS)} are expected")
    frames = _frames(seg)
    slices, grid = _place(seg, frames.shape, image)
    of_frames = _segments_of_frames(seg, len(frames))
    masks = []
    for number in wanted:
        mask = np.zeros(grid.GetSize()[::-1], bool)
        for frame, k, of in zip(frames, slices, of_frames, strict=True):
            if kind == LABELMAP:
                mask[k] |= frame == number
            elif of == number:
                mask[k] |= frame > (_HALF * seg.MaximumFractionalValue if kind == FRACTIONAL else 0)
        masks.append(mask)
    return Segments(masks, grid)


def _frames(seg: Dataset) -> np.ndarray:
    """(N, rows, columns)."""
    try:
        pixels = np.asarray(seg.pixel_array)
    # Broad: pydicom and what unpacks for it raise whatever they meet.
    except Exception as error:
        syntax = seg.file_meta.TransferSyntaxUID.name if hasattr(seg, "file_meta") else "damaged, or unknown"
        raise ValueError(f"its frames cannot be unpacked ({syntax}); store it uncompressed") from error
    return pixels[np.newaxis] if pixels.ndim == 2 else pixels


def _group(seg: Dataset, name: str, frame: int) -> Dataset:
    """One functional group of a frame: its own, or the one that all share."""
    own = seg.PerFrameFunctionalGroupsSequence[frame].get(name)
    shared = own or seg.SharedFunctionalGroupsSequence[0].get(name)
    if not shared:
        raise ValueError(f"its frames do not say where they lie ({name} is missing)")
    return shared[0]


def _segments_of_frames(seg: Dataset, count: int) -> list[int]:
    """Number of the segment of each frame; 0 in a label map, whose frames hold all of them."""
    if seg.get("SegmentationType") == LABELMAP:
        return [0] * count
    return [int(_group(seg, "SegmentIdentificationSequence", n).ReferencedSegmentNumber) for n in range(count)]


def _place(seg: Dataset, shape: tuple[int, ...], image: Path) -> tuple[np.ndarray, sitk.Image]:
    """The slice of each frame, from 0, and the grid of all slices."""
    count, rows, columns = shape
    if len(seg.get("PerFrameFunctionalGroupsSequence") or ()) != count or not seg.get("SharedFunctionalGroupsSequence"):
        raise ValueError("its frames do not say where they lie")
    axes = np.array([_group(seg, "PlaneOrientationSequence", n).ImageOrientationPatient for n in range(count)], float)
    measures = [_group(seg, "PixelMeasuresSequence", n) for n in range(count)]
    spacings = np.array([one.PixelSpacing for one in measures], float)
    if np.ptp(axes, axis=0).max() > 1e-3 or np.ptp(spacings, axis=0).max() > 1e-3:
        raise ValueError("its frames are not parallel, or not of one size")
    along_i, along_j = axes[0].reshape(2, 3)
    normal = np.cross(along_i, along_j)
    corners = np.array([_group(seg, "PlanePositionSequence", n).ImagePositionPatient for n in range(count)], float)
    within = (corners - corners[0]) @ np.stack([along_i, along_j]).T / spacings[0][::-1]
    if np.abs(within).max() > _OFF_SLICE:
        raise ValueError(
            "its frames do not lie one above the other; store them with the rows and columns of the series"
        )
    heights = corners @ normal
    step = _step(heights, measures[0], normal, image)
    places = np.rint((heights - heights.min()) / step).astype(int)
    grid = sitk.Image([columns, rows, int(places.max()) + 1], sitk.sitkUInt8)
    grid.SetSpacing([float(spacings[0][1]), float(spacings[0][0]), step])
    grid.SetDirection(np.stack([along_i, along_j, normal], axis=1).ravel().tolist())
    grid.SetOrigin([float(part) for part in corners[heights.argmin()]])
    return places, grid


def _step(heights: Array, measures: Dataset, normal: Array, image: Path) -> float:
    """The distance between slices: that of the image, else the declared one, which may be wrong."""
    _, affine = image_grid(image)
    # DICOM's axes are left and posterior, those of the affine right and anterior.
    along = np.abs(normal @ np.diag([-1, -1, 1]) @ affine[:3, :3])
    declared = float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 0)
    step = next((step for step in (float(along.max()), declared) if step > 0 and _are_on(heights, step)), None)
    if step is None:
        raise ValueError("its frames lie on no slices of equal distance; draw on the series itself, and store it again")
    return step


def _are_on(heights: np.ndarray, step: float) -> bool:
    places = (heights - heights.min()) / step
    return bool(np.abs(places - np.rint(places)).max() < _OFF_SLICE)


def why_not_learned_from(seg: Dataset, names: Collection[str]) -> str:
    """Why nothing learns from a DICOM SEG, as far as it tells without its frames; "" where it may be learned from.

    Args:
        seg: without its frames.
        names: of the structures that are segmented here, as `lib.annotations.label_names.normal_name` gives them.
    """
    wanted = [number for number, name in segment_names(seg).items() if is_wanted(name, names)]
    if not wanted:
        return NO_STRUCTURE
    kind = str(seg.get("SegmentationType"))
    if kind not in KINDS:
        return f"its type is {kind[:20]!r}"
    try:
        count = len(seg.PerFrameFunctionalGroupsSequence)
        drawn = kind == LABELMAP or set(wanted) & set(_segments_of_frames(seg, count))
    except (AttributeError, ValueError):
        return "its frames do not say which segment they are of"
    return "" if count and drawn else "nothing is drawn in it"


def is_of_this_program(seg: Dataset) -> bool:
    """Whether a DICOM SEG was saved through a server of this program."""
    made_by = [str(item.get("SegmentAlgorithmName", "")) for item in seg.get("SegmentSequence", [])]
    return any(name.startswith((PROGRAM, _OF_MONAI_LABEL)) for name in made_by)


def is_wanted(name: str, names: Collection[str]) -> bool:
    """Whether a segment is one of these structures, or an object of one."""
    return normal_name(name) in names or label_of(name) in names


def segment_names(seg: Dataset) -> dict[int, str]:
    """Names of the segments of a DICOM SEG by number, ascending, without the background of a label map."""
    items = seg.get("SegmentSequence", [])
    named = dict(sorted((int(item.SegmentNumber), str(item.get("SegmentLabel", ""))) for item in items))
    return {number: name for number, name in named.items() if number}


def image_of(seg: Dataset, client: Any) -> str:
    """SeriesInstanceUID of the image that a DICOM SEG was drawn on; empty where it does not say.

    Args:
        seg: may be without its frames.
        client: DICOMweb client; asked for the series of a slice where the SEG names slices alone.
    """
    if referenced := seg.get("ReferencedSeriesSequence"):
        return str(referenced[0].get("SeriesInstanceUID", ""))
    slice_uid = _source_slice(seg)
    if not slice_uid:
        return ""
    found = client.search_for_instances(str(seg.StudyInstanceUID), search_filters={"SOPInstanceUID": slice_uid})
    return str(Dataset.from_json(found[0]).get("SeriesInstanceUID", "")) if found else ""


def _source_slice(seg: Dataset) -> str:
    """SOPInstanceUID of a slice that a frame was drawn on; "" where none is named."""
    for group in (*seg.get("PerFrameFunctionalGroupsSequence", ()), *seg.get("SharedFunctionalGroupsSequence", ())):
        for derivation in group.get("DerivationImageSequence") or ():
            for source in derivation.get("SourceImageSequence") or ():
                if uid := source.get("ReferencedSOPInstanceUID"):
                    return str(uid)
    return ""


def made_at(seg: Dataset) -> float:
    """When a DICOM SEG was made, in seconds since 1970; 0 where it does not say."""
    zone = _zone(seg)
    for kind in ("Series", "Content", "InstanceCreation"):
        day, time = (str(seg.get(f"{kind}{part}") or "") for part in ("Date", "Time"))
        try:
            made = datetime.strptime(f"{day} {time[:6].ljust(6, '0')}", "%Y%m%d %H%M%S")
            return made.replace(tzinfo=zone).timestamp()
        except ValueError:
            continue
    return 0.0


def _zone(seg: Dataset) -> tzinfo | None:
    """The time zone of the SEG's dates and times; None for that of this server."""
    try:
        return datetime.strptime(str(seg.get("TimezoneOffsetFromUTC") or ""), "%z").tzinfo
    except ValueError:
        # Missing, or not as DICOM has it: we assume that whoever made the SEG is in the server's own time zone.
        return None
