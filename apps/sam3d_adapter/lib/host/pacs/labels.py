"""The final labels of a PACS: what was saved through this server, and DICOM SEG that viewers stored beside it.

MONAI Label 0.8.5 takes every SEG of the PACS for the truth, whoever made it, lets the last in the order of the query
win, or one that it fetched before whatever came later (``monailabel/datastore/dicom.py:100``), numbers its segments
without their names, and deletes what it has as soon as the SEG leaves the PACS (``:238``). So its ``datalist()`` is not
asked here.
"""

import logging
import tempfile
from collections.abc import Collection, Iterable, Set
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pydicom_seg
import SimpleITK as sitk
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from pydicom.dataset import Dataset

from lib.annotations.label_names import label_of, normal_name
from lib.annotations.label_snapshots import LabelSnapshots
from lib.annotations.slice_gaps import require_filled
from lib.annotations.submitted import SavedLabel
from lib.host.pacs.dicom_fetch import fetch_series
from lib.host.patches.version_guard import check_host_version
from lib.host.saved_labels import saved_labels
from lib.volumes.label_grid import image_grid

logger = logging.getLogger(__name__)

_OFF_SLICE = 0.1
"""Slices by which a frame may lie beside one: positions are rounded."""
_AWAY = "The DICOMweb server did not answer."


def pacs_labels(
    datastore: DICOMWebDatastore, kept: LabelSnapshots, *, expected: Collection[str], clicked: Collection[str]
) -> list[SavedLabel]:
    """The newest label of each image, from now on also in the folder of own copies.

    Of the DICOM SEG that were not saved through this server, those count that can have been made with it: their image
    was clicked on here, and a segment has the name of a structure that is segmented here.

    Where the PACS does not answer, what was kept before is all there is. An image that the cache has lost is fetched
    again; where that fails, its label says why.

    Args:
        datastore: of the app.
        kept: takes the copies.
        expected: names of the structures that the presets segment.
        clicked: ids of images on which this server answered clicks.
    """
    check_host_version(__name__)
    sent = set()
    for label in saved_labels(datastore):
        # The host's own conversion of a SEG, without names; the SEG itself is read below.
        if label.info.get("Modality") != "SEG" and label.label.is_file():
            sent.add(str(label.info.get("SeriesInstanceUID")))
            kept.keep(label, float(label.info.get("ts") or 0) + 1)
    names = {normal_name(name) for name in expected}
    try:
        newest, has_answered = _newest(datastore, names, clicked), True
    # Broad: the client raises whatever HTTP or DICOM error it met.
    except Exception:
        logger.warning("The DICOMweb server did not say which DICOM SEG it has.", exc_info=True)
        newest, has_answered = {}, False
    refused: list[SavedLabel] = []
    for image_id, (made, series) in sorted(newest.items()):
        if str(series.SeriesInstanceUID) in sent or made <= kept.saved_at(image_id):
            continue
        try:
            _keep_seg(datastore, kept, image_id, series, made, names)
        except Exception as error:
            reason = str(error.detail if isinstance(error, HTTPException) else error).rstrip(".")
            logger.warning("A DICOM SEG is left out: %s.", reason)
            older = " The one before is used." if kept.saved_at(image_id) else ""
            problem = f"its newest DICOM SEG cannot be used: {reason}.{older}".rstrip(".")
            refused.append(SavedLabel(image_id, Path(), Path(), problem=problem))
    return _with_images(datastore, kept.labels(), has_answered=has_answered) + refused


def _with_images(datastore: DICOMWebDatastore, labels: list[SavedLabel], *, has_answered: bool) -> list[SavedLabel]:
    found, is_there = [], True
    for label in labels:
        if not label.image.exists():
            try:
                if not is_there:
                    raise HTTPException(503, _AWAY)
                fetch_series(label.image_id, datastore)
                label = replace(label, image=Path(datastore.get_image_uri(label.image_id)))
            except HTTPException as error:
                # One that does not answer is not waited for once more for each of hundreds of labels; one that does may
                # fail at a single series.
                is_there = is_there and (has_answered or error.status_code != 503)
                label = replace(label, problem=f"its image could not be fetched again: {str(error.detail).rstrip('.')}")
        found.append(label)
    return found


def _newest(
    datastore: DICOMWebDatastore, names: Set[str], clicked: Collection[str]
) -> dict[str, tuple[float, Dataset]]:
    """Image id -> when its newest admitted SEG was made, and the SEG without its frames."""
    newest: dict[str, tuple[float, Dataset]] = {}
    for found in datastore._client.search_for_series(search_filters={"Modality": "SEG"}):
        listed = Dataset.from_json(found)
        uids = str(listed.StudyInstanceUID), str(listed.SeriesInstanceUID)
        for entry in datastore._client.retrieve_series_metadata(*uids):
            seg = Dataset.from_json(entry)
            image_id = image_of(seg)
            if image_id not in clicked or not any(_is_wanted(name, names) for name in segment_names(seg).values()):
                logger.info("The DICOM SEG %s is not of this server.", uids[1])
                continue
            made = made_at(seg)
            if made >= newest.get(image_id, (0.0,))[0]:
                newest[image_id] = made, seg
    return newest


def _keep_seg(
    datastore: DICOMWebDatastore,
    kept: LabelSnapshots,
    image_id: str,
    seg: Dataset,
    made: float,
    names: Collection[str],
) -> None:
    instances = datastore._client.retrieve_series(str(seg.StudyInstanceUID), str(seg.SeriesInstanceUID))
    whole = next(instance for instance in instances if instance.SOPInstanceUID == seg.SOPInstanceUID)
    fetch_series(image_id, datastore)
    with tempfile.TemporaryDirectory(prefix="seg-") as folder:
        file = Path(folder) / "seg.nrrd"
        image = Path(datastore.get_image_uri(image_id))
        notes = write_seg(whole, file, names, image)
        kept.keep(
            SavedLabel(
                image_id=image_id,
                image=image,
                label=file,
                info={"SeriesInstanceUID": str(seg.SeriesInstanceUID), "notes": notes},
                image_info=datastore.get_image_info(image_id),
            ),
            made,
        )


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
        ValueError: no DICOM SEG that can be read, frames that lie on no slices, or segments that overlap or have gaps.
    """
    wanted = {number: name for number, name in segment_names(seg).items() if _is_wanted(name, names)}
    written = read_segments(seg, wanted, image)
    labels = sitk.GetArrayViewFromImage(written)
    said = require_filled(labels, [(name, (value,)) for value, name in enumerate(wanted.values(), start=1)])
    if others := [name for name in segment_names(seg).values() if not _is_wanted(name, names)]:
        listed = ", ".join(f"'{name[:60]}'" for name in others[:8])
        said.append(f"Of its DICOM SEG {listed} is left out: no task here has that structure.")
    for value, name in enumerate(wanted.values(), start=1):
        written.SetMetaData(f"Segment{value}_Name", name)
        written.SetMetaData(f"Segment{value}_LabelValue", str(value))
    sitk.WriteImage(written, str(file), True)
    return said


def read_segments(seg: Dataset, wanted: Iterable[int], image: Path) -> sitk.Image:
    """Segments of a DICOM SEG as a label map, numbered from 1 in the order of ``wanted``, on the slices they are on.

    Args:
        seg: with its frames.
        wanted: numbers of segments, one at least.
        image: the file of its image.

    Raises:
        ValueError: no DICOM SEG that can be read, frames that lie on no slices, or segments that overlap.
    """
    _set_slices(seg, image)
    read = pydicom_seg.SegmentReader().read(seg)
    labels: np.ndarray = np.zeros(read.size[::-1], np.uint8)
    numbers = list(wanted)
    for value, number in enumerate(numbers, start=1):
        segment = read.segment_data(number) > 0.5
        if labels[segment].any():
            raise ValueError("its segments overlap")
        labels[segment] = value
    found = sitk.GetImageFromArray(labels)
    found.CopyInformation(read.segment_image(numbers[0]))
    return found


def _set_slices(seg: Dataset, image: Path) -> None:
    """Sets the distance between the slices of a DICOM SEG, which may be told wrong.

    Raises:
        ValueError: see `write_seg`.
    """
    shared = seg.SharedFunctionalGroupsSequence[0]
    rows, columns = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(rows, columns)
    corners = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in seg.PerFrameFunctionalGroupsSequence]
    heights = np.array(corners, float) @ normal
    measures = shared.PixelMeasuresSequence[0]
    _, affine = image_grid(image)
    # DICOM's axes are left and posterior, those of the affine right and anterior.
    along = np.abs(normal @ np.diag([-1, -1, 1]) @ affine[:3, :3])
    declared = float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 0)
    step = next((step for step in (float(along.max()), declared) if step > 0 and _are_on(heights, step)), None)
    if step is None:
        raise ValueError("its frames lie on no slices of equal distance; draw on the series itself, and store it again")
    measures.SpacingBetweenSlices = f"{step:.10g}"


def _are_on(heights: np.ndarray, step: float) -> bool:
    places = (heights - heights.min()) / step
    return bool(np.abs(places - np.rint(places)).max() < _OFF_SLICE)


def _is_wanted(name: str, names: Collection[str]) -> bool:
    return normal_name(name) in names or label_of(name) in names


def segment_names(seg: Dataset) -> dict[int, str]:
    """Names of the segments of a DICOM SEG by number, ascending."""
    items = seg.get("SegmentSequence", [])
    return dict(sorted((int(item.SegmentNumber), str(item.get("SegmentLabel", ""))) for item in items))


def image_of(seg: Dataset) -> str:
    """SeriesInstanceUID of the image that a DICOM SEG was drawn on; empty where it does not say."""
    referenced: Any = seg.get("ReferencedSeriesSequence")
    return str(referenced[0].SeriesInstanceUID) if referenced else ""


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
