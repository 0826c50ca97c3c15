"""Synthetic CT series as DICOM, with solids at known places of the patient.

Places are LPS: mm towards the patient's left, posterior, superior, as DICOM has them. Voxels are [i, j, k]: column,
row, and rank of the slice along (row x column) of ImageOrientationPatient, as OHIF and MONAI Label have them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

from lib.phantoms.phantom import Phantom

Vector = tuple[float, float, float]
Voxel = tuple[int, int, int]
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a series lie.

    Attributes:
        shape: voxels along i, j, k.
        spacing: mm along i, j, k.
        i_direction: LPS unit vector of growing column index, the first half of ImageOrientationPatient.
        j_direction: LPS unit vector of growing row index, the second half.
        origin: LPS of the centre of voxel (0, 0, 0).
    """

    shape: Voxel
    spacing: Vector
    i_direction: Vector
    j_direction: Vector
    origin: Vector

    @property
    def index_to_lps(self) -> np.ndarray:
        """(4, 4) voxel index -> LPS mm."""
        i, j = np.array(self.i_direction), np.array(self.j_direction)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([i, j, np.cross(i, j)], axis=1) * np.array(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    def lps(self, ijk: Sequence[float]) -> np.ndarray:
        """(3,) LPS mm of a voxel index."""
        return (self.index_to_lps @ [*ijk, 1.0])[:3]

    def ijk(self, lps: Sequence[float]) -> np.ndarray:
        """(3,) voxel index, not rounded, of an LPS place."""
        return (np.linalg.inv(self.index_to_lps) @ [*lps, 1.0])[:3]

    def voxel(self, lps: Sequence[float]) -> Voxel:
        """The voxel an LPS place lies in: what a viewer sends for a click there."""
        i, j, k = np.rint(self.ijk(lps)).astype(int)
        return int(i), int(j), int(k)


def centred_geometry(
    shape: Voxel,
    spacing: Vector,
    *,
    orientation: str = "axial",
    centre: Vector = (0.0, 0.0, 0.0),
    tilt_deg: Vector = (0.0, 0.0, 0.0),
) -> Geometry:
    """A grid around a place of the patient.

    Args:
        shape: voxels along i, j, k.
        spacing: mm along i, j, k.
        orientation: ``axial``, ``sagittal`` or ``feet_up``: axial with rows running to the front, so that slices
            ascend towards the feet.
        centre: LPS of the middle of the grid.
        tilt_deg: rotation of the grid about L, P and S, one after the other.
    """
    directions = {
        "axial": ([1, 0, 0], [0, 1, 0]),
        "sagittal": ([0, 1, 0], [0, 0, -1]),
        "feet_up": ([1, 0, 0], [0, -1, 0]),
    }
    i, j = Rotation.from_euler("xyz", tilt_deg, degrees=True).apply(np.array(directions[orientation], float))
    geometry = Geometry(shape, spacing, _vector(i), _vector(j), (0.0, 0.0, 0.0))
    middle = geometry.lps((np.array(shape) - 1) / 2)
    return replace(geometry, origin=_vector(np.array(centre) - middle))


@dataclass(frozen=True)
class Ellipsoid:
    """A solid of one attenuation.

    Attributes:
        centre: LPS mm.
        radii: mm along L, P, S.
        hu: attenuation.
    """

    centre: Vector
    radii: Vector
    hu: float

    def inside(self, geometry: Geometry) -> np.ndarray:
        """(i, j, k) bool: voxels whose centre lies inside."""
        i, j, k = np.ogrid[tuple(slice(0, n) for n in geometry.shape)]
        matrix = geometry.index_to_lps
        distance = np.zeros(geometry.shape)
        for axis in range(3):
            place = matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 2] * k + matrix[axis, 3]
            distance += ((place - self.centre[axis]) / self.radii[axis]) ** 2
        return distance < 1


def ball(centre: Vector, diameter_mm: float, hu: float) -> Ellipsoid:
    """An ellipsoid of equal radii."""
    return Ellipsoid(centre, (diameter_mm / 2,) * 3, hu)


def paint_scene(solids: Sequence[Ellipsoid], geometry: Geometry, *, noise_hu: float, seed: int) -> np.ndarray:
    """Air with solids, first to last, and noise.

    Returns:
        (i, j, k) int16 HU.
    """
    hu = np.full(geometry.shape, -1000.0)
    for solid in solids:
        hu[solid.inside(geometry)] = solid.hu
    hu += np.random.default_rng(seed).normal(0, noise_hu, size=geometry.shape)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


@dataclass(frozen=True)
class Study:
    """A study of one CT series.

    Attributes:
        patient_name: as a viewer lists it.
        geometry: of ``image``.
        image: (i, j, k) int16 HU.
        instances: one per slice, in the order of InstanceNumber.
    """

    patient_name: str
    geometry: Geometry
    image: np.ndarray
    instances: tuple[FileDataset, ...]

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return str(self.instances[0].StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID, the image id in MONAI Label."""
        return str(self.instances[0].SeriesInstanceUID)


def make_study(
    image: np.ndarray, geometry: Geometry, *, patient_name: str, is_instance_number_reversed: bool = False
) -> Study:
    """Wrap a volume as DICOM.

    Args:
        image: (i, j, k) int16 HU.
        geometry: of ``image``.
        patient_name: family name only, ASCII; also the patient's id.
        is_instance_number_reversed: number the slices against k, which no reader may heed.
    """
    if image.shape != geometry.shape or image.dtype != np.int16:
        raise ValueError(f"An int16 volume of shape {geometry.shape} is needed, not {image.dtype} of {image.shape}.")
    study_uid, series_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
    count = geometry.shape[2]
    instances = []
    for k in range(count):
        instance = _instance(image[:, :, k], geometry, k)
        instance.PatientName = instance.PatientID = patient_name
        instance.StudyInstanceUID = study_uid
        instance.SeriesInstanceUID = series_uid
        instance.FrameOfReferenceUID = frame_uid
        instance.InstanceNumber = count - k if is_instance_number_reversed else k + 1
        instances.append(instance)
    instances.sort(key=lambda instance: int(instance.InstanceNumber))
    return Study(patient_name, geometry, image, tuple(instances))


def read_study(folder: Path) -> Study:
    """The CT series whose slices lie in a folder, ``*.dcm``."""
    read = [dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    first = read[0]
    i, j = (np.array(first.ImageOrientationPatient[at : at + 3], float) for at in (0, 3))
    normal = np.cross(i, j)
    heights = [float(normal @ np.array(one.ImagePositionPatient, float)) for one in read]
    order = np.argsort(heights)
    between_rows, between_columns = (float(value) for value in first.PixelSpacing)
    thickness = (max(heights) - min(heights)) / (len(read) - 1)
    lowest = read[int(order[0])]
    geometry = Geometry(
        (int(first.Columns), int(first.Rows), len(read)),
        (between_columns, between_rows, thickness),
        _vector(i),
        _vector(j),
        _vector(np.array(lowest.ImagePositionPatient, float)),
    )
    slope, intercept = float(first.RescaleSlope), float(first.RescaleIntercept)
    image = np.stack([read[at].pixel_array.T for at in order], axis=2) * slope + intercept
    return Study(str(first.PatientName), geometry, image.astype(np.int16), tuple(read))


def phantom_study(phantom: Phantom, *, patient_name: str) -> Study:
    """Wrap a phantom as DICOM.

    A DICOM series is right-handed (slices ascend along row x column), a phantom may be left-handed: it is then turned
    over along k, so find its lesions by ``geometry`` and ``phantom_landmark``, not by their stored index.
    """
    affine, image = np.array(phantom.affine), phantom.image
    if np.linalg.det(_RAS_FROM_LPS @ affine[:3, :3]) < 0:
        affine[:3, 3] += affine[:3, 2] * (image.shape[2] - 1)
        affine[:3, 2] *= -1
        image = image[:, :, ::-1]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = _RAS_FROM_LPS @ affine[:3, :3] / spacing
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-6):
        raise ValueError("The phantom's axes are not orthogonal, which a DICOM series cannot say.")
    i, j, k = image.shape
    geometry = Geometry(
        (i, j, k),
        _vector(spacing),
        _vector(directions[:, 0]),
        _vector(directions[:, 1]),
        _vector(_RAS_FROM_LPS @ affine[:3, 3]),
    )
    return make_study(np.ascontiguousarray(image), geometry, patient_name=patient_name)


def phantom_landmark(phantom: Phantom, ijk: Voxel) -> Vector:
    """LPS of a voxel of a phantom as stored."""
    return _vector(_RAS_FROM_LPS @ (phantom.affine @ [*ijk, 1.0])[:3])


def _instance(plane: np.ndarray, geometry: Geometry, k: int) -> FileDataset:
    """One slice; ``plane`` is (i, j), stored as rows j of columns i."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(None, Dataset(), file_meta=meta, preamble=b"\0" * 128)
    ds.is_little_endian, ds.is_implicit_VR = True, False
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.SeriesNumber, ds.StudyID, ds.AccessionNumber = "CT", 1, "1", ""
    ds.StudyDescription = ds.SeriesDescription = "synthetic"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20200101"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "120000"
    ds.PatientBirthDate, ds.PatientSex, ds.Manufacturer = "", "O", ""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImageOrientationPatient = [_decimal(v) for v in (*geometry.i_direction, *geometry.j_direction)]
    ds.ImagePositionPatient = [_decimal(v) for v in geometry.lps((0, 0, k))]
    ds.PixelSpacing = [_decimal(geometry.spacing[1]), _decimal(geometry.spacing[0])]  # between rows, between columns
    ds.SliceThickness = _decimal(geometry.spacing[2])
    ds.Columns, ds.Rows = plane.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, 0, "HU"
    ds.WindowCenter, ds.WindowWidth = 40, 400
    ds.PixelData = np.ascontiguousarray(plane.T).astype("<i2").tobytes()
    return ds


def _decimal(value: float) -> str:
    """DICOM's decimal strings hold 16 characters."""
    return f"{value:.10f}"[:16]


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z
