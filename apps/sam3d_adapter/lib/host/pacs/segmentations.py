"""DICOM SEG of the PACS that were drawn on a series, whoever stored them: listed, and read onto its voxels."""

import tempfile
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from pydicom.dataset import Dataset

from lib.host.pacs.dicom_fetch import fetch_series
from lib.host.pacs.seg_reading import image_of, made_at, read_segments, segment_names
from lib.host.patches.version_guard import check_host_version
from lib.infers.write_mask import write_mask
from lib.prompts.reading import short
from lib.volumes.label_grid import image_grid, on_grid
from lib.volumes.read import read_array

_MOST_SEGMENTS = 255
_AWAY = "The PACS does not answer, so its segmentations cannot be seen. Try again in a moment."


def list_segmentations(image: str, datastore: DICOMWebDatastore) -> list[dict[str, Any]]:
    """``series``, ``segments`` (names by value), ``by`` and ``ts`` (seconds since 1970) of each, the newest first.

    Raises:
        HTTPException: 503 where the PACS does not answer.
    """
    found = [
        {
            "series": str(seg.SeriesInstanceUID),
            "segments": list(segment_names(seg).values()),
            "by": str(seg.get("ContentCreatorName") or seg.get("Manufacturer") or ""),
            "ts": made_at(seg),
        }
        for seg in _drawn_on(image, datastore)
    ]
    return sorted(found, key=lambda one: (-one["ts"], one["series"]))


def segmentation_file(image: str, series: str, datastore: DICOMWebDatastore) -> Path:
    """A DICOM SEG as a compressed NRRD on the voxels of its image; its segments are numbered from 1.

    Returns:
        A file that the caller removes.

    Raises:
        HTTPException: 404 where the image has no such DICOM SEG, 422 for one that is no label map, 503 where the PACS
            does not answer.
    """
    listed = next((seg for seg in _drawn_on(image, datastore) if str(seg.SeriesInstanceUID) == series), None)
    if listed is None:
        raise HTTPException(404, f"The PACS has no DICOM SEG {short(series)} of this series. Reload the list.")
    try:
        (seg, *more) = datastore._client.retrieve_series(str(listed.StudyInstanceUID), series)
    # Broad: the client raises whatever HTTP or DICOM error it met.
    except Exception as error:
        raise HTTPException(503, _AWAY) from error
    fetch_series(image, datastore)
    onto = Path(datastore.get_image_uri(image))
    names = segment_names(seg)
    if more or not 0 < len(names) <= _MOST_SEGMENTS:
        raise HTTPException(422, "This DICOM SEG holds no segment, or more than one file. Open it in 3D Slicer.")
    try:
        labels = read_segments(seg, names, onto).label_map()
    # Broad: pydicom raises whatever it meets in a damaged file.
    except Exception as error:
        reason = str(error).rstrip(".") if isinstance(error, ValueError) else "it is damaged"
        raise HTTPException(422, f"This DICOM SEG cannot be opened: {reason}. Open it in 3D Slicer.") from error
    with tempfile.TemporaryDirectory(prefix="seg-") as folder:
        sitk.WriteImage(labels, f"{folder}/seg.nrrd")
        voxels, affine = read_array(Path(folder) / "seg.nrrd")
    shape, grid = image_grid(onto)
    return write_mask(on_grid(voxels, affine, shape, grid), grid, ".nrrd", compress=True)


def _drawn_on(image: str, datastore: DICOMWebDatastore) -> list[Dataset]:
    """The DICOM SEG of the image's study that name it, without their frames."""
    check_host_version(__name__)
    study = datastore.study_of(image).get("study", "")
    found = []
    try:
        wanted = {"Modality": "SEG", "StudyInstanceUID": study}
        for listed in datastore._client.search_for_series(search_filters=wanted):
            series = str(Dataset.from_json(listed).SeriesInstanceUID)
            entries = [Dataset.from_json(entry) for entry in datastore._client.retrieve_series_metadata(study, series)]
            found += [entry for entry in entries[:1] if image_of(entry, datastore._client) == image]
    # Broad: see above.
    except Exception as error:
        raise HTTPException(503, _AWAY) from error
    return found
