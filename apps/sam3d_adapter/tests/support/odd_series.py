"""DICOM series that are no volume on a regular grid, made from one that is."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import EnhancedCTImageStorage, generate_uid

from tests.support.dicom_study import Study, centred_geometry, make_study, paint_scene
from tests.support.dicom_study import ball as make_ball

SPACING = (1.0, 1.0, 2.0)
CLICK = [16, 16, 8]
Series = list[FileDataset]


def make_series(*, orientation: str = "axial", count: int = 16) -> Study:
    """A bright ball in air: 32 x 32 pixels, slices 2 mm apart."""
    geometry = centred_geometry((32, 32, count), SPACING, orientation=orientation)
    image = paint_scene([make_ball((0, 0, 0), 16, 60)], geometry, noise_hu=10, seed=3)
    return make_study(image, geometry, patient_name="ODD")


def as_file(dataset: Dataset) -> bytes:
    """The bytes of a DICOM file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, write_like_original=False)
    return buffer.getvalue()


def _copies(study: Study) -> Series:
    return [copied(instance) for instance in study.instances]


def copied(instance: FileDataset) -> FileDataset:
    """One of its own, by way of its bytes; pydicom's deep copies cannot be copied once more."""
    return pydicom.dcmread(io.BytesIO(as_file(instance)))


def _move(instance: FileDataset, offset: Sequence[float]) -> None:
    position = np.array(instance.ImagePositionPatient, float) + np.array(offset)
    instance.ImagePositionPatient = [f"{value:.6f}"[:16] for value in position]


def without_a_slice(study: Study) -> Series:
    series = _copies(study)
    del series[5]
    return series


def with_another_distance(study: Study) -> Series:
    """From the middle on, slices are 4 mm apart."""
    series = _copies(study)
    for rank, instance in enumerate(series[8:]):
        _move(instance, (0, 0, 2.0 * (rank + 1)))
    return series


def tilted(study: Study) -> Series:
    """The gantry tilted by 15 degrees: each slice a little lower than the one before."""
    series = _copies(study)
    for rank, instance in enumerate(series):
        _move(instance, (0, rank * SPACING[2] * float(np.tan(np.radians(15))), 0))
    return series


def of_two_phases(study: Study) -> Series:
    series = _copies(study)
    again = _copies(study)
    for instance in again:
        instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return series + again


def with_a_scout(study: Study) -> Series:
    series = _copies(study)
    series[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    return series


def with_another_size(study: Study) -> Series:
    series = _copies(study)
    series[3].Rows, series[3].Columns = 16, 16
    series[3].PixelData = bytes(16 * 16 * 2)
    return series


def with_another_pixel_size(study: Study) -> Series:
    series = _copies(study)
    series[3].PixelSpacing = ["0.5", "0.5"]
    return series


def with_another_series(study: Study) -> Series:
    series = _copies(study)
    series[3].SeriesInstanceUID = generate_uid()
    return series


def without_places(study: Study) -> Series:
    series = _copies(study)
    for instance in series:
        del instance.ImagePositionPatient
    return series


def in_colour(study: Study) -> Series:
    series = _copies(study)
    for instance in series:
        instance.SamplesPerPixel, instance.PhotometricInterpretation = 3, "RGB"
        instance.BitsAllocated = instance.BitsStored = 8
        instance.HighBit, instance.PixelRepresentation, instance.PlanarConfiguration = 7, 0, 0
        instance.PixelData = bytes(32 * 32 * 3)
    return series


def of_one_slice(study: Study) -> Series:
    return _copies(study)[:1]


# By name: what makes it of a good series, and words of the refusal.
ODD: dict[str, tuple[Callable[[Study], Series], tuple[str, ...]]] = {
    "missing slice": (without_a_slice, ("4.00 mm", "2.00 mm", "missing")),
    "variable spacing": (with_another_distance, ("mm between slices", "distance varies")),
    "gantry tilt": (tilted, ("tilted by 15.0 degrees", "dcm2niix")),
    "two phases": (of_two_phases, ("several slices in one place",)),
    "scout": (with_a_scout, ("not parallel",)),
    "two sizes": (with_another_size, ("several sizes",)),
    "two pixel sizes": (with_another_pixel_size, ("pixel sizes",)),
    "two series": (with_another_series, ("several series",)),
    "no places": (without_places, ("where each of its slices lies",)),
    "colour": (in_colour, ("colours",)),
    "single slice": (of_one_slice, ("single slice",)),
}


def multi_frame(
    study: Study,
    *,
    missing: int | None = None,
    order: Sequence[int] | None = None,
    slopes: Sequence[float] | None = None,
) -> FileDataset:
    """The series as one file of many frames, as newer scanners send it.

    Args:
        study: an axial series.
        missing: a slice to leave out.
        order: which slice comes first, second, ...; from the lowest if None.
        slopes: what the numbers of each frame are to be multiplied with, each frame by its own; none is said if None.
    """
    ordered = sorted(study.instances, key=lambda instance: float(instance.ImagePositionPatient[2]))
    ordered = [ordered[rank] for rank in (order or range(len(ordered)))]
    if missing is not None:
        del ordered[missing]
    whole = copied(ordered[0])
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID = EnhancedCTImageStorage
    whole.NumberOfFrames = len(ordered)
    whole.PixelData = b"".join(instance.PixelData for instance in ordered)
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = ordered[0].ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = ordered[0].PixelSpacing, ordered[0].SliceThickness
    measures.SpacingBetweenSlices = ordered[0].SliceThickness
    shared = Dataset()
    shared.PlaneOrientationSequence = DicomSequence([orientation])
    shared.PixelMeasuresSequence = DicomSequence([measures])
    whole.SharedFunctionalGroupsSequence = DicomSequence([shared])
    frames = []
    for rank, instance in enumerate(ordered, start=1):
        place, content, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = instance.ImagePositionPatient
        content.DimensionIndexValues = [1, rank]
        content.InStackPositionNumber, content.StackID = rank, "1"
        frame.PlanePositionSequence = DicomSequence([place])
        frame.FrameContentSequence = DicomSequence([content])
        if slopes is not None:
            scale = Dataset()
            scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = slopes[rank - 1], 0, "US"
            frame.PixelValueTransformationSequence = DicomSequence([scale])
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(whole, tag)
    if slopes is not None:
        del whole.RescaleSlope, whole.RescaleIntercept
    return whole


def film(study: Study) -> FileDataset:
    """Many frames without a place, as ultrasound has them."""
    whole = multi_frame(study)
    for tag in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        delattr(whole, tag)
    return whole
