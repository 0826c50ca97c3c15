"""Patches: a DICOM SEG names its segments by their place in a list, and neither the model nor what it is for.

MONAI Label 0.8.5 gives the n-th value that occurs in a label the n-th name of the list that came with it
(``monailabel/datastore/utils/convert.py:94``), so that names shift where a segment is empty or "background" is listed
first. It calls every segment the spleen (SCT 78961009), made automatically by "MONAILABEL", and the series "AIName". It
sends an empty name of a file where a mask is empty (``:138``). We know of no upstream issue.

Here dcmqi, which MONAI Label starts as well, is told the names that the trainer reads in the same file.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from fastapi import HTTPException
from monailabel.datastore.utils.convert import itk_image_to_dicom_seg
from monailabel.interfaces.utils.app import app_instance

from lib.annotations.label_names import NamesError, named_values
from lib.annotations.submitted import UNNAMED
from lib.geometry.axes import Array
from lib.host.pacs.seg_reading import PROGRAM
from lib.host.patches.version_guard import check_host_version
from lib.volumes.label_file import LabelFile, NotALabelError, read_label_file
from lib.volumes.label_grid import image_grid, label_affine, on_grid
from lib.workflow.reviews import author_of

PURPOSE = "Research use only"
_LONG = 64
"""Characters that fit into DICOM's value representations LO and PN."""
_DESCRIPTION = 1024
_TISSUE = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
_COLOURS = ((230, 60, 50), (60, 160, 240), (80, 190, 90), (240, 190, 50), (170, 90, 200), (240, 130, 40))
_about: ContextVar[Mapping[str, Any] | None] = ContextVar("about", default=None)


@dataclass(frozen=True)
class Maker:
    """Who or what made a label, as far as known.

    Attributes:
        author: who drew or submitted it.
        model: whose answer it started from, or is.
        version: of that model.
    """

    author: str = ""
    model: str = ""
    version: str = ""

    @property
    def algorithm(self) -> str:
        """Name and version of the model, in DICOM's 64 characters."""
        return _text(" ".join(word for word in (PROGRAM, self.model, self.version) if word))


@contextmanager
def about(info: Mapping[str, Any]) -> Iterator[None]:
    """DICOM SEG that are written now are of this label.

    Args:
        info: what comes with the label.
    """
    before = _about.set(info)
    try:
        yield
    finally:
        _about.reset(before)


def write_dicom_seg(host: Any, series_dir: str, label: str, label_info: Any, *_: Any, **__: Any) -> str:
    """``nifti_to_dicom_seg``: each segment under the name that came with it, on the voxels of its series.

    Args:
        host: MONAI Label's function, which is not called.
        series_dir: folder of the DICOM slices; the image that was made of them lies beside it.
        label: a label's file.
        label_info: as viewers send it.

    Raises:
        HTTPException: 422.
    """
    check_host_version(__name__)
    path, image = Path(label), Path(f"{series_dir}.nii.gz")
    try:
        file = read_label_file(path)
        entries = [one for one in label_info or () if isinstance(one, Mapping)]
        info = {**(_about.get() or {}), **({"label_info": entries} if entries else {})}
        segments = named_values(file.segments(), info, file.texts, one_for_all=True)
    except (NotALabelError, NamesError) as error:
        raise HTTPException(422, f"No DICOM SEG can be made of this label: {error}. Save it again.") from error
    if segments is None:
        segments = [(UNNAMED, value) for value in file.segments()]
    affine, layers = file.affine, _layers(file, [value for _, value in segments])
    if image.is_file():
        shape, onto = image_grid(image)
        affine = label_affine(path, affine, image, onto)
        layers = [on_grid(voxels, affine, shape, onto) for voxels in layers]
        affine = onto
    written = write_layers(
        Path(series_dir), layers, affine, [name for name, _ in segments], _maker(info, entries), entries
    )
    if not written:
        raise HTTPException(
            422, "No DICOM SEG can be made of this mask: it is empty, or the tool that writes it (itkimage2segimage) "
            "failed. Click again, choose output=image, or draw on the series itself."
        )  # fmt: skip
    return written


def write_layers(
    series: Path,
    layers: Sequence[np.ndarray],
    affine: Array,
    names: Sequence[str],
    maker: Maker,
    entries: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Writes a DICOM SEG.

    Args:
        series: folder of the DICOM slices.
        layers: (i, j, k) each: 0, or the number of a segment, from 1; segments that overlap lie in several.
        affine: (4, 4), voxel index to RAS mm.
        names: of the segments.
        maker: of the label.
        entries: what came with the segments, as viewers send it.

    Returns:
        Path of the file, which the caller removes; "" where nothing is drawn, or dcmqi failed.
    """
    with tempfile.TemporaryDirectory(prefix="seg-") as folder:
        files: list[str] = []
        described = []
        for voxels in layers:
            if drawn := [int(number) for number in np.unique(voxels) if number]:
                files.append(f"{folder}/{len(files)}.nii.gz")
                nib.save(nib.Nifti1Image(voxels, affine), files[-1])
                described.append([_segment(number, names[number - 1], entries) for number in drawn])
        written = itk_image_to_dicom_seg(",".join(files), str(series), _series(described)) if files else ""
    if not written or not Path(written).is_file():
        return ""
    _describe(written, names, entries, maker)
    return written


def _layers(file: LabelFile, values: Sequence[int]) -> list[np.ndarray]:
    """The segments, numbered from 1 in the order of ``values``; in one layer unless they overlap."""
    numbers = [list(file.numbers((value,))) for value in values]
    together = [number for each in numbers for number in each]
    everything = range(len(values))
    found = []
    for layer in [everything] if len(set(together)) == len(together) else [[rank] for rank in everything]:
        table = np.zeros(int(file.voxels.max()) + 1, np.uint8)
        for rank in layer:
            table[numbers[rank]] = rank + 1
        found.append(table[file.voxels])
    return found


def _maker(info: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Maker:
    named = [info.get("model"), *(entry.get("model_name") for entry in entries)]
    model = next((name for name in named if isinstance(name, str) and name), "")
    # What the server saves of its own answer says which version gave it.
    answer = info.get("params")
    stated = answer.get("version") if isinstance(answer, Mapping) else None
    return Maker(author_of(info), model, str(stated or "") or _served_version(model))


def _served_version(model: str) -> str:
    task = app_instance()._infers.get(model) if model else None
    served = getattr(task, "served", None)
    return str(served.status().version or "") if served is not None else ""


def _entry(name: str, entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What came with a segment."""
    return next((one for one in entries if str(one.get("name", "")).strip() == name), {})


def _segment(number: int, name: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What dcmqi is told of a segment; its texts follow, for dcmqi takes ASCII alone."""
    entry = _entry(name, entries)
    stated = entry.get("segmentAttribute")
    stated = stated if isinstance(stated, Mapping) else {}
    colour = list(entry.get("color") or _COLOURS[number % len(_COLOURS)])[:3]
    return {
        # Not MANUAL: nobody says that no mask of a model was there before.
        "SegmentAlgorithmType": "SEMIAUTOMATIC",
        "SegmentedPropertyCategoryCodeSequence": _TISSUE,
        "SegmentedPropertyTypeCodeSequence": _TISSUE,
        "recommendedDisplayRGBValue": [min(max(int(part), 0), 255) for part in colour],
        **stated,
        "labelID": number,
        "SegmentLabel": str(number),
        "SegmentDescription": PURPOSE,
        "SegmentAlgorithmName": PROGRAM,
    }


def _series(segments: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    return {
        "ContentCreatorName": "",
        "SeriesDescription": PURPOSE,
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "segmentAttributes": segments,
        "BodyPartExamined": "",
    }


def _describe(path: str, names: Sequence[str], entries: Sequence[Mapping[str, Any]], maker: Maker) -> None:
    """Writes the texts into a DICOM SEG, in UTF-8."""
    seg = pydicom.dcmread(path)
    seg.decode()
    seg.SpecificCharacterSet = "ISO_IR 192"
    seg.ContentCreatorName = _text(maker.author)
    seg.ContentLabel, seg.ContentDescription = "SEGMENTATION", _text(f"{PURPOSE}. {maker.algorithm}")
    seg.SeriesDescription = _text(" ".join(filter(None, (f"{PURPOSE}:", maker.model, "segmentation"))))
    made = maker.algorithm if maker.model else f"Saved through {PROGRAM}; the model is not known"
    for segment in seg.SegmentSequence:
        name = names[int(segment.SegmentLabel) - 1]
        words = (PURPOSE, made, str(_entry(name, entries).get("description") or "").strip())
        segment.SegmentLabel, segment.SegmentAlgorithmName = _text(name), maker.algorithm
        segment.SegmentDescription = _text(". ".join(filter(None, words)), _DESCRIPTION)
    # dcmqi writes one of a clinical trial, which there is none of, and without what DICOM wants to know of it.
    for keyword in ("ClinicalTrialSeriesID", "ClinicalTrialTimePointID", "ClinicalTrialCoordinatingCenterName"):
        if keyword in seg:
            delattr(seg, keyword)
    seg.save_as(path)


def _text(words: str, most: int = _LONG) -> str:
    r"""As DICOM can hold it: no backslash, no control characters, not too long."""
    return "".join(" " if letter == "\\" or not letter.isprintable() else letter for letter in words)[:most].strip()
