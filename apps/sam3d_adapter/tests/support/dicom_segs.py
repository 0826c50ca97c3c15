"""DICOM SEG as other programs write them: highdicom, dcmqi, and one that nobody knows, made by hand."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.support.dicom_study import Study

Masks = Mapping[str, np.ndarray]
"""By name of a segment, (i, j, k); bool, or shares of a voxel."""
_LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"


def _slice_of(study: Study, instance: Dataset) -> int:
    return int(study.geometry.voxel([float(part) for part in instance.ImagePositionPatient])[2])


def by_highdicom(study: Study, masks: Masks, *, kind: str = "BINARY", omit_empty: bool = True) -> Dataset:
    """highdicom's own writer."""
    sources = list(study.instances)
    pixels = np.stack(
        [np.stack([mask[:, :, _slice_of(study, one)].T for one in sources]) for mask in masks.values()], axis=-1
    )
    described = [
        hd.seg.SegmentDescription(
            number, name, codes.SCT.Tissue, codes.SCT.Tissue, hd.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, name in enumerate(masks, start=1)
    ]
    return hd.seg.Segmentation(
        sources, pixels.astype(np.float32 if kind == "FRACTIONAL" else np.uint8), kind, described, generate_uid(), 7,
        generate_uid(), 1, "Maker", "Model", "1", "0", omit_empty_frames=omit_empty,
    )  # fmt: skip


def by_dcmqi(study: Study, masks: Masks, image: Path, folder: Path, *, kind: str = "binary") -> Dataset:
    """dcmqi's own program, as 3D Slicer uses it."""
    (folder / "source").mkdir()
    for number, one in enumerate(study.instances):
        one.save_as(folder / f"source/{number}.dcm", write_like_original=False)
    tissue = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
    attributes = [
        {
            "labelID": number, "SegmentLabel": name, "SegmentDescription": name, "SegmentAlgorithmType": "MANUAL",
            "SegmentedPropertyCategoryCodeSequence": tissue, "SegmentedPropertyTypeCodeSequence": tissue,
        }
        for number, name in enumerate(masks, start=1)
    ]  # fmt: skip
    labels = np.zeros(study.geometry.shape, np.uint8)
    for number, mask in enumerate(masks.values(), start=1):
        labels[mask] = number
    nib.save(nib.Nifti1Image(labels, nib.load(image).affine), folder / "labels.nii.gz")
    about = {
        "ContentCreatorName": "Poe", "SeriesDescription": "Segmentation", "SeriesNumber": "9", "InstanceNumber": "1",
        "segmentAttributes": [attributes],
    }  # fmt: skip
    (folder / "about.json").write_text(json.dumps(about))
    subprocess.run(
        [
            str(Path(sys.executable).parent / "itkimage2segimage"), "--inputImageList", str(folder / "labels.nii.gz"),
            "--inputDICOMDirectory", str(folder / "source"), "--outputDICOM", str(folder / "seg.dcm"),
            "--inputMetadata", str(folder / "about.json"), "--segmentationType", kind,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return pydicom.dcmread(folder / "seg.dcm")


def by_hand(
    study: Study,
    masks: Masks,
    *,
    kind: str = "BINARY",
    order: Sequence[int] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    is_flipped: bool = False,
    is_shared: bool = True,
    refers: str = "series",
) -> Dataset:
    """A third program: correct, but unlike the others.

    Args:
        study: that was drawn on.
        masks: bool.
        kind: BINARY or LABELMAP.
        order: of the frames; None for segment by segment, ascending.
        crop: first and last column and row that are kept.
        is_flipped: whether rows run the other way, and slices with them.
        is_shared: whether orientation and size stand once for all frames.
        refers: to the ``series``, to its ``slices`` alone, or to ``nothing``.
    """
    geometry, first = study.geometry, study.instances[0]
    seg = Dataset()
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "StudyID"):
        if keyword in first:
            setattr(seg, keyword, first.get(keyword))
    is_map = kind == "LABELMAP"
    seg.SOPClassUID = _LABELMAP_STORAGE if is_map else pydicom.uid.SegmentationStorage
    seg.SOPInstanceUID, seg.SeriesInstanceUID, seg.Modality = generate_uid(), generate_uid(), "SEG"
    seg.SegmentationType, seg.SamplesPerPixel, seg.PhotometricInterpretation = kind, 1, "MONOCHROME2"
    seg.BitsAllocated, seg.BitsStored, seg.HighBit = (8, 8, 7) if is_map else (1, 1, 0)
    seg.PixelRepresentation, seg.Manufacturer = 0, "Third"
    seg.ContentDate, seg.ContentTime = "20500101", "120000"
    seg.SegmentSequence = []
    for number, name in enumerate((*(("background",) if is_map else ()), *masks), start=0 if is_map else 1):
        item = Dataset()
        item.SegmentNumber, item.SegmentLabel, item.SegmentAlgorithmType = number, name, "MANUAL"
        seg.SegmentSequence.append(item)
    left, right, top, bottom = crop or (0, geometry.shape[0] - 1, 0, geometry.shape[1] - 1)
    frames = []
    numbered = list(enumerate(masks.values(), start=1))
    if is_map:
        labels = np.zeros(geometry.shape, np.uint8)
        for number, mask in numbered:
            labels[mask] = number
        numbered = [(0, labels)]
    for number, mask in numbered:
        for k in np.flatnonzero(mask.any(axis=(0, 1))):
            pixels = mask[left : right + 1, top : bottom + 1, k].T
            frames.append((number, int(k), pixels[::-1] if is_flipped else pixels))
    frames = [frames[place] for place in (order or range(len(frames)))]
    turn = -1.0 if is_flipped else 1.0
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [*geometry.i_direction, *(turn * np.array(geometry.j_direction))]
    measures.PixelSpacing = [geometry.spacing[1], geometry.spacing[0]]
    measures.SliceThickness = geometry.spacing[2]
    shared = Dataset()
    seg.SharedFunctionalGroupsSequence = [shared]
    seg.PerFrameFunctionalGroupsSequence = []
    slices = {_slice_of(study, one): one for one in study.instances}
    for number, k, _ in frames:
        group, position, segment = Dataset(), Dataset(), Dataset()
        corner = geometry.lps((left, bottom if is_flipped else top, k))
        position.ImagePositionPatient = [f"{part:.6f}" for part in corner]
        segment.ReferencedSegmentNumber = number
        group.PlanePositionSequence = [position]
        if not is_map:
            group.SegmentIdentificationSequence = [segment]
        if refers == "slices":
            group.DerivationImageSequence = [Dataset()]
            group.DerivationImageSequence[0].SourceImageSequence = [Dataset()]
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            source.ReferencedSOPClassUID = slices[k].SOPClassUID
            source.ReferencedSOPInstanceUID = slices[k].SOPInstanceUID
        for where in () if is_shared else (group,):
            where.PlaneOrientationSequence, where.PixelMeasuresSequence = [orientation], [measures]
        seg.PerFrameFunctionalGroupsSequence.append(group)
    if is_shared:
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    if refers == "series":
        seg.ReferencedSeriesSequence = [Dataset()]
        seg.ReferencedSeriesSequence[0].SeriesInstanceUID = study.series_uid
    seg.NumberOfFrames = len(frames)
    seg.Rows, seg.Columns = bottom - top + 1, right - left + 1
    whole: Any = np.stack([pixels for *_, pixels in frames])
    packed = whole.astype(np.uint8) if is_map else np.packbits(whole.astype(bool).ravel(), bitorder="little")
    seg.PixelData = packed.tobytes() + b"\0" * (packed.nbytes % 2)
    seg.file_meta = FileMetaDataset()
    seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    seg.is_little_endian, seg.is_implicit_VR = True, False
    return seg
