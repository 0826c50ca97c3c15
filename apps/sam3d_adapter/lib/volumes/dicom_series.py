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

from lib.geometry.axes import Matrix, as_matrix
from lib.volumes.dicom_header import read_header
from lib.volumes.header_validation import MAX_VOXELS
from lib.volumes.volume import ImageError

SPACING_TOLERANCE = 0.1
"""Share of the slice distance by which a gap may differ; scanners round positions to a hundredth of a millimetre."""
TILT_TOLERANCE_DEG = 0.5
"""Between the line of the slices and their normal; the sideways drift is then 1 mm over a region of 128 mm."""
PARALLEL_TOLERANCE = 2e-3
"""By which direction cosines of two slices may differ; rounded to 3 decimals, equal ones do by 1e-3."""
PIXEL_TOLERANCE = 1e-3
"""Share of the pixel size by which it may differ between slices: half a pixel at the edge of 512."""
_MM_DECIMALS, _COSINE_DECIMALS = range(1, 4), range(2, 5)
"""Decimals that numbers may be rounded to. With fewer they are whole by nature; with more, rounding does not matter."""
_RIGHT_ANGLE = 1e-3
"""By which directions of rows and columns may miss a length of 1 and a right angle, beside their rounding."""

_TAGS = [
    "SeriesInstanceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SpacingBetweenSlices", "RescaleSlope",
    "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
_MEASURES = "PixelMeasuresSequence"
_SCALES = "PixelValueTransformationSequence"
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class DicomSeries:
    """One volume on a regular grid.

    Attributes:
        files: in the order of their slices, along (row x column) of their orientation; or one of many frames.
        shape: voxels along i, j, k: columns, rows, slices.
        order: the slices in that order, as ranks among the frames of a single file; of several files, 0, 1, 2, ...
        index_to_lps: (4, 4), voxel index to LPS mm, of a frame at right angles.
        is_float: whether values are no whole numbers, or stored numbers become values by several rules.
        is_inverted: whether viewers show high values dark (MONOCHROME1), for which ITK changes the values.
        misleads_itk: whether a header says of the slices' distance what ITK cannot stand.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    order: tuple[int, ...]
    index_to_lps: Matrix
    is_float: bool
    is_inverted: bool = False
    misleads_itk: bool = False


@dataclass(frozen=True)
class _Frame:
    """One slice.

    Attributes:
        orientation: (6,) directions of rows and columns, LPS.
        position: (3,) centre of its first voxel, LPS mm.
        pixel_mm: (2,) distance between rows, between columns.
        scale: what stored numbers are multiplied with, and what is added.
    """

    orientation: Sequence[float]
    position: Sequence[float]
    pixel_mm: Sequence[float]
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
    pixels = np.array([frame.pixel_mm for frame in frames], np.float64)
    if np.ptp(pixels, axis=0).max() > PIXEL_TOLERANCE * pixels.min():
        raise ImageError(f"Series {path.name} holds slices of several pixel sizes. Send the slices of one stack.")
    _require_right_angle(orientations, _unit(orientations, _COSINE_DECIMALS), path.name)
    order = check_grid(orientations, positions, path.name, unit_mm=_unit(positions, _MM_DECIMALS))
    lowest, highest = positions[order[0]], positions[order[-1]]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = _directions(orientations)
    rows_mm, columns_mm = np.median(pixels, axis=0)
    affine[:3, :3] *= columns_mm, rows_mm, np.linalg.norm(highest - lowest) / (len(frames) - 1)
    affine[:3, 3] = lowest
    return DicomSeries(
        files=tuple(files[rank] for rank in order) if len(files) > 1 else tuple(files),
        shape=(int(headers[0].Columns), int(headers[0].Rows), len(frames)),
        order=tuple(range(len(frames)) if len(files) > 1 else map(int, order)),
        index_to_lps=as_matrix(affine),
        is_float=len(scales) > 1 or not all(number.is_integer() for scale in scales for number in scale),
        is_inverted=any(header.get("PhotometricInterpretation") == "MONOCHROME1" for header in headers),
        misleads_itk=any(_misleads_itk(header) for header in headers),
    )


def check_grid(orientations: _Array, positions: _Array, name: str, *, unit_mm: float = 0.0) -> NDArray[np.intp]:
    """The order of slices along their normal, if they are parallel, evenly spaced and stacked along it.

    Args:
        orientations: (N, 6) directions of rows and columns, LPS.
        positions: (N, 3) centre of each slice's first voxel, LPS mm, in any order.
        name: of the series, for messages.
        unit_mm: of the last decimal that positions were rounded to; what rounding explains is no fault.

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
    if np.abs(orientations - orientations[0]).max() > PARALLEL_TOLERANCE:
        raise ImageError(
            f"Series {name} has slices that are not parallel, such as a scout among them. Send the slices of one stack."
        )
    normal = _directions(orientations)[2]
    heights = positions @ normal
    order = np.argsort(heights)
    gaps = np.diff(heights[order])
    usual = float(np.median(gaps))
    if usual < 1e-3 or gaps.min() < SPACING_TOLERANCE * usual:
        raise ImageError(
            f"Series {name} has several slices in one place, as a series of several phases or a repeated slice. "
            "Send one slice for each place."
        )
    # Of evenly spaced places that were rounded, two gaps differ by one unit along each axis; a missing slice still is
    # more than half a slice distance.
    rounding = 1.001 * unit_mm * float(np.abs(normal).sum())
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > min(max(SPACING_TOLERANCE * usual, rounding), usual / 2):
        raise ImageError(
            f"Series {name} has gaps of {gaps[worst]:.2f} mm (behind slice {worst + 1} of {count}) and of {usual:.2f} "
            "mm between slices; slices are missing, or their distance varies. Send all slices, or a reconstruction "
            "with one distance."
        )
    _require_upright(positions[order], normal, name, unit_mm)
    return order


def _unit(values: _Array, decimals: range) -> float:
    """The unit of the last decimal that all values are given with.

    Not of their text: numbers that were float32 once have many decimals, of which the last say nothing.
    """
    for count in decimals:
        if np.abs(values - np.round(values, count)).max() < 0.5 * 10.0 ** -decimals[-1]:
            return float(10.0**-count)
    return float(10.0 ** -decimals[-1])


def _require_upright(positions: _Array, normal: _Array, name: str, unit_mm: float) -> None:
    ranks = np.arange(len(positions)) - (len(positions) - 1) / 2
    step = ranks @ positions / (ranks @ ranks)
    along = float(step @ normal)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(step - along * normal), along)))
    # The most that rounding by half a unit along each axis moves the line through the places.
    drift = np.sqrt(3) * unit_mm / 2 * float(np.abs(ranks).sum() / (ranks @ ranks))
    if tilt > TILT_TOLERANCE_DEG + float(np.degrees(np.arctan2(drift, along))):
        raise ImageError(
            f"Series {name} was taken with the gantry tilted by {tilt:.1f} degrees; slices stacked along their normal "
            f"are expected (at most {TILT_TOLERANCE_DEG} degrees). Correct the tilt, for example with dcm2niix."
        )


def _require_right_angle(orientations: _Array, unit: float, name: str) -> None:
    rows, columns = orientations[:, :3], orientations[:, 3:]
    lengths = np.linalg.norm(np.concatenate([rows, columns]), axis=1)
    angles = (rows * columns).sum(axis=1)
    # Half a unit along each of three axes, for two directions.
    if not max(np.abs(lengths - 1).max(), np.abs(angles).max()) <= _RIGHT_ANGLE + np.sqrt(3) * unit:
        raise ImageError(
            f"Series {name} says that rows and columns of its slices are not at right angles, or gives them no "
            "direction (ImageOrientationPatient). Export it again."
        )


def _directions(orientations: _Array) -> tuple[_Array, _Array, _Array]:
    """(3,) unit vectors of growing column index, row index and rank: at right angles, though cosines are rounded."""
    mean = orientations.mean(axis=0)
    i, j = (part / np.linalg.norm(part) for part in (mean[:3], mean[3:]))
    # Both are turned by the same angle.
    middle, across = (part / np.linalg.norm(part) for part in (i + j, i - j))
    i, j = (middle + across) / np.sqrt(2), (middle - across) / np.sqrt(2)
    return i, j, np.cross(i, j)


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
    ):
        if len({str(header.get(tag)) for header in headers}) > 1:
            raise ImageError(f"Series {name} holds {what}. Send the slices of one stack.")
    if not all(_is_grey(header) for header in headers):
        raise ImageError(f"Series {name} holds colours; one number per voxel is expected.")


def _is_grey(header: Dataset) -> bool:
    kind = header.get("PhotometricInterpretation") or "MONOCHROME2"
    return int(header.get("SamplesPerPixel") or 1) == 1 and kind in ("MONOCHROME1", "MONOCHROME2")


def _frames(header: Dataset, name: str) -> list[_Frame]:
    """The frames of a file, as they are stored."""
    try:
        count = int(header.get("NumberOfFrames") or 1)
        if "PerFrameFunctionalGroupsSequence" not in header:
            if count > 1:
                raise KeyError("PerFrameFunctionalGroupsSequence")
            return [_frame(header, header, header, _scale(header), name)]
        shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
        return [
            _frame(
                _group(frame, shared[0], "PlaneOrientationSequence"),
                _group(frame, shared[0], "PlanePositionSequence"),
                (frame.get(_MEASURES) or shared[0].get(_MEASURES) or [header])[0],
                _scale((frame.get(_SCALES) or shared[0].get(_SCALES) or [header])[0]),
                name,
            )
            for frame in header.PerFrameFunctionalGroupsSequence
        ]
    except ImageError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ImageError(
            f"Series {name} does not say where each of its slices lies, as a film or a photograph does not. Choose a "
            "series of CT, MR or PET slices."
        ) from error


def _frame(orientation: Dataset, position: Dataset, measures: Dataset, scale: tuple[float, float], name: str) -> _Frame:
    return _Frame(
        _numbers(orientation, "ImageOrientationPatient", 6),
        _numbers(position, "ImagePositionPatient", 3),
        _pixel_mm(measures, name),
        scale,
    )


def _pixel_mm(measures: Dataset, name: str) -> list[float]:
    try:
        sizes = _numbers(measures, "PixelSpacing", 2)
    except (AttributeError, KeyError, TypeError, ValueError):
        sizes = [0.0]
    if not all(np.isfinite(size) and size > 0 for size in sizes):
        raise ImageError(
            f"Series {name} does not say how large its pixels are (PixelSpacing is missing, empty or not above 0). "
            "Nothing can be measured in it; export it again as the scanner made it."
        )
    return sizes


def _misleads_itk(header: Dataset) -> bool:
    """Whether it states a distance between slices of 0, in the whole or for a frame."""
    groups = [*(header.get("SharedFunctionalGroupsSequence") or ())]
    groups += header.get("PerFrameFunctionalGroupsSequence") or ()
    stated = [header, *(measures for group in groups for measures in group.get(_MEASURES) or ())]
    return any("SpacingBetweenSlices" in each and not each.SpacingBetweenSlices for each in stated)


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
