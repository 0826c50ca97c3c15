"""Patches: a series of the PACS is taken as it comes: half of it while it arrives, gaps and tilt without a word.

MONAI Label 0.8.5 takes a folder with one file for the whole series (``monailabel/datastore/dicom.py:86``) and never
asks again, so that a transfer that broke off, and a series that was still on its way into the PACS, are never
completed; it converts slices to NIfTI at their mean distance whatever they say of their places
(``monailabel/datastore/utils/convert.py:33``); and answers 500 where the PACS does not. Slices that need a correction
before they are a volume: upstream has no issue we know of.
"""

import logging
import math
import threading
import time
from dataclasses import dataclass, field

from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from pydicom.errors import InvalidDicomError

from lib.host.pacs.series_copy import IncompleteTransfer, SeriesCopy, series_hash
from lib.host.patches.request_errors import storage_problem
from lib.host.patches.version_guard import check_host_version
from lib.volumes.dicom_series import DicomSeries, check_series
from lib.volumes.memory import MemoryShortage
from lib.volumes.volume import ImageError

logger = logging.getLogger(__name__)

MIN_PAUSE_S, MAX_PAUSE_S = 10.0, 600.0
"""Bounds of the polling interval. We wait as long as the series has been unchanged, within these bounds: a series that
is arriving is asked for often, and an interaction of a hundred clicks leads to a few requests."""
WAIT_S = 5.0
"""For the answer, which is not worth more of a click's time: a PACS of one site answers within a tenth of a second."""

_now = time.monotonic


@dataclass(frozen=True)
class FetchedSeries:
    """The slices of a series that lie in the cache.

    Attributes:
        hash: `lib.host.pacs.series_copy.series_hash` of them.
        changed_s: seconds since other slices than these were found to be out of date that had been given out before;
            inf where that never was.
    """

    hash: str
    changed_s: float


@dataclass
class _Known:
    """What this process knows of a series.

    Attributes:
        lock: held while the copy is looked at or changed.
        compared_at: when the PACS was asked last, in seconds of ``_now``; -inf if never.
        same_since: since when it has given the same answer.
        listed: hash of the SOPInstanceUIDs that the PACS told when the copy was fetched; None if it was not.
        state: modification time of the folder, in ns, when ``problem`` and ``hash`` were found out.
        hash: of the slices.
        problem: what is wrong with the slices.
        series: the slices, where nothing is.
        used: modification time of the folder when it was given out last; None if it never was.
        given: hash of the slices that were given out last, by this process or the one before; None if none were.
        changed_at: when other slices were given out than before, in seconds of ``_now``; -inf if never.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    compared_at: float = -math.inf
    same_since: float = 0.0
    listed: int | None = None
    state: int | None = None
    hash: str = ""
    problem: str | None = None
    series: DicomSeries | None = None
    used: int | None = None
    given: str | None = None
    changed_at: float = -math.inf

    def is_due(self) -> bool:
        pause = min(max(self.compared_at - self.same_since, MIN_PAUSE_S), MAX_PAUSE_S)
        return _now() - self.compared_at >= pause

    def note(self, *, is_same: bool) -> None:
        is_first = self.compared_at == -math.inf
        self.compared_at = _now()
        if is_first or not is_same:
            self.same_since = self.compared_at


_series: dict[str, _Known] = {}
_lock = threading.Lock()


def fetch_series(image_id: str, datastore: DICOMWebDatastore, *, is_due: bool = False) -> FetchedSeries:
    """Makes sure that a series lies in the cache of the data store, as the PACS has it and on a regular grid.

    The PACS is asked whether it has other slices by now at the first use of a series, each time while the series is
    refused, and else at growing intervals. If it has, they are fetched, and the labels of the image are kept. If it
    does not answer, what is there has to do.

    Args:
        image_id: SeriesInstanceUID.
        datastore: of the app.
        is_due: whether the PACS is asked now, however short ago it was.

    Raises:
        HTTPException: 503 where the PACS does not answer or the server lacks the memory, 404 where the PACS has no such
            series, 422 where its slices are no regular volume.
    """
    check_host_version(__name__)
    copy = SeriesCopy(image_id, datastore)
    known = _known_of(copy)
    with known.lock:
        if known.compared_at == -math.inf and copy.was_given_out():
            known.given = series_hash(copy.held())
        is_new = _bring_up_to_date(copy, known, is_due=is_due)
        problem = _problem(copy, known)
        if known.series is None:
            raise HTTPException(422, problem)
        try:
            copy.convert(known.series, is_new=is_new, is_known=known.used == known.state)
        except ImageError as error:
            raise HTTPException(422, str(error)) from error
        except MemoryShortage as error:
            raise HTTPException(503, str(error)) from error
        # Broad: the host raises whatever HTTP, DICOM, ITK or file error it met.
        except Exception as error:
            logger.warning("A series could not be converted.", exc_info=True)
            raise storage_problem(error) or _unreadable(copy, known, is_new=is_new) from error
        if known.given not in (None, known.hash):
            known.changed_at = _now()
        known.given, known.used = known.hash, known.state
        return FetchedSeries(known.hash, _now() - known.changed_at)


def _known_of(copy: SeriesCopy) -> _Known:
    with _lock:
        return _series.setdefault(str(copy.folder), _Known())


def _bring_up_to_date(copy: SeriesCopy, known: _Known, *, is_due: bool) -> bool:
    """Fetches the series if it is not there or the PACS has another one; whether it was fetched."""
    if not copy.is_there():
        return _fetch(copy, known, copy.listed(WAIT_S))
    problem = _problem(copy, known)
    if problem is None and not (is_due or known.is_due()):
        return False
    is_first = known.compared_at == -math.inf
    listed = copy.listed(WAIT_S)
    # Where the PACS has lost the series, or lists a part of it only, and has sent the same before.
    is_same = not listed or hash(listed) == known.listed or listed == copy.held()
    # What an earlier process left may be damaged without lacking a file.
    if is_same and not (is_first and listed and problem is not None):
        known.note(is_same=True)
        return False
    return _fetch(copy, known, listed)


def _fetch(copy: SeriesCopy, known: _Known, listed: frozenset[str] | None) -> bool:
    try:
        copy.download(listed)
    # Broad: the client raises whatever HTTP, DICOM or file error it met.
    except Exception as error:
        logger.warning("A series could not be fetched.", exc_info=True)
        raise _answer(error) from error
    known.note(is_same=False)
    known.listed, known.state = hash(listed), None
    return True


def _answer(error: Exception) -> HTTPException:
    """The answer to an error while a series was fetched: the fault of the PACS, or of this server."""
    if isinstance(error, IndexError):
        return HTTPException(404, "The DICOMweb server has no such series.")
    if isinstance(error, IncompleteTransfer):
        return HTTPException(503, f"The DICOMweb server did not send this series to the end: {error} Try again later.")
    if isinstance(error, InvalidDicomError):
        return HTTPException(503, "The DICOMweb server sent what is no DICOM. Ask its administrator.")
    return storage_problem(error) or HTTPException(
        500, "This server failed to take in the series, which is no fault of the DICOMweb server. Its log says why."
    )


def _unreadable(copy: SeriesCopy, known: _Known, *, is_new: bool) -> HTTPException:
    """The answer where the slices are whole by their headers, and their voxels cannot be read."""
    if not is_new:
        copy.remove_slices()
        return HTTPException(503, "The copy of this series on this server is damaged; it is fetched anew. Try again.")
    # Until the PACS has other slices, or this server starts again, it need not be tried again.
    known.series = None
    known.problem = (
        "All slices of this series came, but this server cannot read their voxels: they are damaged, or packed in a "
        "way that it does not know. Export the series again, without compression."
    )
    return HTTPException(422, known.problem)


def _problem(copy: SeriesCopy, known: _Known) -> str | None:
    """What is wrong with the slices; worked out once for each state of the folder."""
    state = copy.folder.stat().st_mtime_ns
    if known.state != state:
        try:
            known.series, known.problem = check_series(copy.folder), None
        except ImageError as error:
            known.series, known.problem = None, str(error)
        known.state, known.hash = state, series_hash(copy.held())
    return known.problem
