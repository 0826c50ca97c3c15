"""Cases of a PACS as DICOM: the slices of a series, and a DICOM SEG on them."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from lib.annotations.submitted import SubmittedError
from lib.host.pacs.seg_writing import Maker, write_layers
from lib.label_sets.chosen_cases import ChosenCase
from lib.label_sets.layouts import Layout
from lib.label_sets.names import Names

# What places voxels in space, and gives them a value. Nothing else of a slice leaves the hospital.
_KEPT = (
    "SOPClassUID", "ImageType", "Modality", "InstanceNumber", "PatientPosition", "SliceThickness",
    "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue", "WindowCenter",
    "WindowWidth", "RescaleIntercept", "RescaleSlope", "RescaleType", "Units", "PixelData",
)  # fmt: skip
_UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
# DICOM wants them to be there, but they may be empty.
_EMPTY = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "PatientSex", "StudyID",
    "SeriesNumber", "PositionReferenceIndicator", "KVP", "AcquisitionNumber", "Manufacturer", "Laterality",
    "PatientPosition",
)  # fmt: skip


def dicom_layout() -> Layout:
    """``images/<case>/`` with the slices, ``segs/<case>.dcm``."""
    return Layout("images/{case}", "segs/{case}.dcm", is_one_task=False, write=_write)


def _write(case: ChosenCase, names: Names, image: Path, label: Path) -> None:
    source = case.case.image.with_name(case.case.image.name.removesuffix(".nii.gz"))
    if source == case.case.image or not source.is_dir():
        raise SubmittedError("the DICOM slices that it was drawn on are not in the cache of this server")
    image.mkdir(parents=True)
    label.parent.mkdir(exist_ok=True)
    for number, path in enumerate(sorted(source.glob("*.dcm"))):
        if names.are_pseudonyms:
            _without_names(path, names, case, image / f"{number:05d}.dcm")
        else:
            shutil.copyfile(path, image / f"{number:05d}.dcm")
    numbered, count = case.case.read_labels(), len(case.case.names)
    layers = [numbered]
    if case.case.unions is not None:
        layers = [case.case.mask(numbered, number) * np.uint8(number) for number in range(1, count + 1)]
    maker = Maker(names.reader(case.drawn_by), case.made_with)
    written = write_layers(image, layers, case.case.affine, case.case.names, maker)
    if not written:
        raise SubmittedError("no DICOM SEG can be made of it (itkimage2segimage failed)")
    shutil.move(written, label)


def _without_names(path: Path, names: Names, case: ChosenCase, out: Path) -> None:
    try:
        source = pydicom.dcmread(path)
    except InvalidDicomError as error:
        raise SubmittedError(f"{path.name} of its series is no DICOM file") from error
    if "PerFrameFunctionalGroupsSequence" in source:
        raise SubmittedError("its series is one file of many frames, whose names cannot be replaced yet")
    found = Dataset()
    for keyword in _EMPTY:
        setattr(found, keyword, "" if pydicom.datadict.dictionary_VR(keyword) != "DS" else None)
    for keyword in _KEPT:
        if keyword in source:
            found.add(source[keyword])
    for keyword in _UIDS:
        if keyword in source:
            setattr(found, keyword, _uid(names, str(source[keyword].value)))
    found.PatientName = found.PatientID = names.patient(case.case.patient.name)
    found.PatientIdentityRemoved, found.DeidentificationMethod = "YES", "Only geometry and voxels were kept"
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    found.file_meta.MediaStorageSOPClassUID = source.SOPClassUID
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    found.is_little_endian, found.is_implicit_VR = source.is_little_endian, source.is_implicit_VR
    found.save_as(out, write_like_original=False)


def _uid(names: Names, uid: str) -> UID:
    """Another UID for each, always the same one."""
    return UID(f"2.25.{int(names.hashed('uid', uid)[:32], 16)}")
