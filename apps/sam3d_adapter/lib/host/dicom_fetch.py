"""Mends: a series of the PACS is taken as it comes: half of it after a broken transfer, gaps and tilt without a word.

MONAI Label 0.8.5 takes a folder with one file for the whole series (``monailabel/datastore/dicom.py:86``), so that a
transfer that broke off is never repaired; it converts slices to NIfTI at their mean distance whatever they say of their
places (``monailabel/datastore/utils/convert.py:33``); and answers 500 where the PACS does not. Slices that need a
correction before they are a volume: upstream has no issue we know of.
"""

import logging
import os
import shutil
import threading
from pathlib import Path

import requests
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore

from lib.host.request_errors import storage_problem
from lib.host.version_guard import check_host_version
from lib.transforms.dicom_series import check_series
from lib.transforms.volume import ImageError

logger = logging.getLogger(__name__)

_checked: dict[str, tuple[int, str | None]] = {}
_lock = threading.Lock()


def fetch_series(image_id: str, datastore: DICOMWebDatastore) -> None:
    """Makes sure that a series lies in the cache of the data store, whole and on a regular grid.

    Args:
        image_id: SeriesInstanceUID.
        datastore: of the app.

    Raises:
        HTTPException: 503 where the PACS does not answer, 404 where it has no such series, 422 where its slices are no
            regular volume.
    """
    check_host_version("dicom_fetch")
    folder = Path(os.path.realpath(os.path.join(datastore._datastore.image_path(), image_id)))
    was_there = folder.is_dir() and any(folder.iterdir())
    try:
        datastore.get_image_uri(image_id)
    # Broad: the client raises whatever HTTP, DICOM, ITK or file error it met.
    except Exception as error:
        problem = _problem(folder) if _is_transferred(error) else None
        if problem is None and not was_there:
            shutil.rmtree(folder, ignore_errors=True)
        logger.warning("A series could not be fetched.", exc_info=True)
        raise _answer(error, problem) from error
    if (problem := _problem(folder)) is not None:
        raise HTTPException(422, problem)


def _is_transferred(error: Exception) -> bool:
    """Whether the error came after the transfer: not from the network, the disk, or an empty answer."""
    return not isinstance(error, requests.RequestException | OSError | IndexError)


def _answer(error: Exception, problem: str | None) -> HTTPException:
    if problem is not None:
        return HTTPException(422, problem)
    if isinstance(error, IndexError):
        return HTTPException(404, "The DICOMweb server has no such series.")
    return storage_problem(error) or HTTPException(
        503, "The DICOMweb server did not send this series to the end. Try again later."
    )


def _problem(folder: Path) -> str | None:
    """What is wrong with the slices; worked out once for each state of the folder."""
    # With MONAI Label's cache emptied by hand, the NIfTI made of the slices may be all there is.
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    state = folder.stat().st_mtime_ns
    with _lock:
        known = _checked.get(str(folder))
        if known is None or known[0] != state:
            known = _checked[str(folder)] = (state, _check(folder))
    return known[1]


def _check(folder: Path) -> str | None:
    try:
        check_series(folder)
    except ImageError as error:
        return str(error)
    return None
