"""Whether DICOM slices are one volume on a regular grid: what converters take for granted, and viewers do not say.

ITK and SimpleITK stack slices at the mean distance along the normal of the first one, whatever the slices say; a gap, a
tilted gantry or a second phase then becomes a volume that looks right and measures wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from lib.volumes.dicom_header import read_header
from lib.volumes.header_validation import MAX_VOXELS
from lib.volumes.volume import ImageError

SPACING_TOLERANCE = 0.1
"""Share of the slice distance by which a gap may differ; scanners round positions to a hundredth of a millimetre."""
TILT_TOLERANCE_DEG = 0.5
"""Between the line of the slices and their normal; the sideways drift is then 1 mm over a region of 128 mm."""

_TAGS = [
    "SeriesInstanceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "ImageOrientationPatient",
    "ImagePositionPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
_SCALES = "PixelValueTransformationSequence"
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class DicomSeries:
    """One volume on a regular grid.

    Attributes:
        files: in the order of their slices, along (row x column) of their orientation; or one of many frames.
        shape: voxels along i, j, k: columns, rows, slices.
        order: the slices in that order, as ranks among the frames of a single file; of several files, 0, 1, 2, ...
        origin: LPS mm of the centre of the first voxel of the first slice.
        distance_mm: between neighbouring slices.
        is_float: whether values are no whole numbers, or stored numbers become values by several rules.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    order: tuple[int, ...]
    origin: tuple[float, float, float]
    distance_mm: float
    is_float: bool


@dataclass(frozen=True)
class _Frame:
    """One slice.

    Attributes:
        orientation: (6,) directions of rows and columns, LPS.
        position: (3,) centre of its first voxel, LPS mm.
        scale: what stored numbers are multiplied with, and what is added.
    """

    orientation: Sequence[float]
    position: Sequence[float]
    scale: tuple[float, float]


def check_series(path: Path) -> DicomSeries:
    """A DICOM file, or all DICOM files of a folder, if they are one volume on a regular grid.

    Raises:
        ImageError: they are not, and what is in the way.
    """
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    headers = [_read(file, path.name) for file in files]
    if not headers:
        raise ImageError(f"Series {path.name} holds no file. Send the image again.")
    _check_alike(headers, path.name)
    frames = [frame for header in headers for frame in _frames(header, path.name)]
    if len(frames) > len(files) > 1:
        raise ImageError(
            f"Series {path.name} holds several files of many frames; one such file, or a file for each slice, is "
            "expected. Send one of them."
        )
    if len(frames) * int(headers[0].Rows) * int(headers[0].Columns) > MAX_VOXELS:
        raise ImageError(f"Series {path.name} has more than {MAX_VOXELS} voxels. Crop or resample it first.")
    scales = {frame.scale for frame in frames}
    if len(scales) > 1 and len(files) == 1:
        raise ImageError(
            f"Series {path.name} scales each of its frames by another factor (RescaleSlope); one for all frames of a "
            "file is expected. Export it as one file for each slice."
        )
    orientations = np.array([frame.orientation for frame in frames], np.float64)
    positions = np.array([frame.position for frame in frames], np.float64)
    order = check_grid(orientations, positions, path.name)
    lowest, highest = positions[order[0]], positions[order[-1]]
    x, y, z = (float(value) for value in lowest)
    return DicomSeries(
        files=tuple(files[rank] for rank in order) if len(files) > 1 else tuple(files),
        shape=(int(headers[0].Columns), int(headers[0].Rows), len(frames)),
        order=tuple(range(len(frames)) if len(files) > 1 else map(int, order)),
        origin=(x, y, z),
        distance_mm=float(np.linalg.norm(highest - lowest)) / (len(frames) - 1),
        is_float=len(scales) > 1 or not all(number.is_integer() for scale in scales for number in scale),
    )


def check_grid(orientations: _Array, positions: _Array, name: str) -> NDArray[np.intp]:
    """The order of slices along their normal, if they are parallel, evenly spaced and stacked along it.

    Args:
        orientations: (N, 6) directions of rows and columns, LPS.
        positions: (N, 3) centre of each slice's first voxel, LPS mm, in any order.
        name: of the series, for messages.

    Returns:
        (N,) indices of the slices, lowest first.

    Raises:
        ImageError: they are not.
    """
    count = len(positions)
    if count < 2:
        raise ImageError(f"Series {name} is a single slice; a volume of at least 2 slices is expected.")
    if not (np.isfinite(orientations).all() and np.isfinite(positions).all()):
        raise ImageError(f"Series {name} has slices without a place in space. Export it again.")
    if np.abs(orientations - orientations[0]).max() > 1e-3:
        raise ImageError(
            f"Series {name} has slices that are not parallel, such as a scout among them. Send the slices of one stack."
        )
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    heights = positions @ normal
    order = np.argsort(heights)
    gaps = np.diff(heights[order])
    usual = float(np.median(gaps))
    if usual < 1e-3 or gaps.min() < SPACING_TOLERANCE * usual:
        raise ImageError(
            f"Series {name} has several slices in one place, as a series of several phases or a repeated slice. "
            "Send one slice for each place."
        )
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > SPACING_TOLERANCE * usual:
        raise ImageError(
            f"Series {name} has gaps of {gaps[worst]:.2f} mm (behind slice {worst + 1} of {count}) and of {usual:.2f} "
            "mm between slices; slices are missing, or their distance varies. Send all slices, or a reconstruction "
            "with one distance."
        )
    line = positions[order[-1]] - positions[order[0]]
    tilt = float(np.degrees(np.arccos(np.clip(line @ normal / np.linalg.norm(line), -1, 1))))
    if tilt > TILT_TOLERANCE_DEG:
        raise ImageError(
            f"Series {name} was taken with the gantry tilted by {tilt:.1f} degrees; slices stacked along their normal "
            f"are expected (at most {TILT_TOLERANCE_DEG} degrees). Correct the tilt, for example with dcm2niix."
        )
    return order


def _read(file: Path, name: str) -> Dataset:
    try:
        header = read_header(file, _TAGS)
        for tag in ("Rows", "Columns"):
            if int(header[tag].value) < 1:
                raise ValueError(f"{tag} is not above 0")
    except ImageError:
        raise
    except InvalidDicomError as error:
        raise ImageError(f"Series {name} holds a file that is not DICOM. Send the slices alone.") from error
    # Broad: pydicom passes on whatever a damaged element led to.
    except Exception as error:
        raise ImageError(f"Series {name} holds a damaged file. Send the series again.") from error
    return header


def _check_alike(headers: Sequence[Dataset], name: str) -> None:
    for tag, what in (
        ("SeriesInstanceUID", "files of several series"),
        ("Rows", "slices of several sizes"),
        ("Columns", "slices of several sizes"),
        ("PixelSpacing", "slices of several pixel sizes"),
    ):
        if len({str(header.get(tag)) for header in headers}) > 1:
            raise ImageError(f"Series {name} holds {what}. Send the slices of one stack.")
    if any(int(header.get("SamplesPerPixel") or 1) != 1 for header in headers):
        raise ImageError(f"Series {name} holds colours; one number per voxel is expected.")


def _frames(header: Dataset, name: str) -> list[_Frame]:
    """The frames of a file, as they are stored."""
    try:
        count = int(header.get("NumberOfFrames") or 1)
        if "PerFrameFunctionalGroupsSequence" not in header:
            if count > 1:
                raise KeyError("PerFrameFunctionalGroupsSequence")
            return [
                _Frame(
                    _numbers(header, "ImageOrientationPatient", 6),
                    _numbers(header, "ImagePositionPatient", 3),
                    _scale(header),
                )
            ]
        shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
        return [
            _Frame(
                _numbers(_group(frame, shared[0], "PlaneOrientationSequence"), "ImageOrientationPatient", 6),
                _numbers(_group(frame, shared[0], "PlanePositionSequence"), "ImagePositionPatient", 3),
                _scale((frame.get(_SCALES) or shared[0].get(_SCALES) or [header])[0]),
            )
            for frame in header.PerFrameFunctionalGroupsSequence
        ]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ImageError(
            f"Series {name} does not say where each of its slices lies, as a film or a photograph does not. Choose a "
            "series of CT, MR or PET slices."
        ) from error


def _group(frame: Dataset, shared: Dataset, name: str) -> Dataset:
    sequence: Any = frame.get(name) or shared[name].value
    item: Dataset = sequence[0]
    return item


def _scale(dataset: Dataset) -> tuple[float, float]:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)


def _numbers(dataset: Dataset, tag: str, count: int) -> list[float]:
    values = [float(value) for value in dataset[tag].value]
    if len(values) != count:
        raise ValueError(tag)
    return values
