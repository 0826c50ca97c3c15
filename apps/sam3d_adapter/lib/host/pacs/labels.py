"""The final labels of a PACS: what was saved through this server, and DICOM SEG that viewers stored beside it.

MONAI Label 0.8.5 takes every SEG of the PACS for the truth, whoever made it, lets the last in the order of the query
win, or one that it fetched before whatever came later (``monailabel/datastore/dicom.py:100``), numbers its segments
without their names, and deletes what it has as soon as the SEG leaves the PACS (``:238``). So its ``datalist()`` is not
asked here.
"""

import logging
import tempfile
from collections.abc import Collection, Set
from dataclasses import replace
from pathlib import Path

from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from pydicom.dataset import Dataset

from lib.annotations.label_names import normal_name
from lib.annotations.label_snapshots import LabelSnapshots
from lib.annotations.submitted import SavedLabel
from lib.host.pacs.dicom_fetch import fetch_series
from lib.host.pacs.seg_reading import NO_IMAGE, NO_STRUCTURE, image_of, is_wanted, made_at, segment_names, write_seg
from lib.host.patches.version_guard import check_host_version
from lib.host.saved_labels import saved_labels

logger = logging.getLogger(__name__)

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
            is_known = any(is_wanted(name, names) for name in segment_names(seg).values())
            image_id = image_of(seg, datastore._client) if is_known else ""
            if image_id not in clicked:
                reason = NO_STRUCTURE if not is_known else NO_IMAGE if not image_id else "nobody clicked on its image"
                logger.info("The DICOM SEG %s is not learned from: %s.", uids[1], reason)
                continue
            # One without a date is older than all others, but better than none.
            made = max(made_at(seg), 1.0)
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
