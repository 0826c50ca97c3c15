"""Whether a viewer has the slices of a series that its clicks are answered on; on others, the mask would lie elsewhere.

Clicks count slices, and a PACS may have more or fewer of them than when the viewer loaded the series, as while it
arrives. Which slices a viewer has, it says itself by ``series_hash`` in ``params``. Of one that says nothing, such as
OHIF or 3D Slicer, the server goes by what it has seen, in this order:

1. What it gave to the client's address last: metadata by ``/proxy/dicom`` (OHIF of this server), or a file by
   ``/datastore/image`` (3D Slicer). Where those are other slices than now, each request is refused until the address
   loads them anew. Next Sample is no loading: what Slicer has open, it shows again.
2. An address that it gave nothing since it started loads its images elsewhere, and when is unknown. It is refused for
   `UNSEEN_S` after slices were replaced that had been used here.
3. Whatever the address: a request is refused that repeats a click which was set on other slices. Viewers send all
   clicks of an interaction, and several may have one address, as two windows do or all behind a reverse proxy.

Nobody is refused for ever: loading the series from this server ends 1, time ends 2, clicks set anew end 3, and
``series_hash`` ends each of them at once. What stays: of several silent viewers with one address, of which one has
loaded the series anew, the first click that another sets on the old slices is answered.
"""

import json
import math
import re
import threading
from collections.abc import Iterable, Mapping
from io import BytesIO
from itertools import chain, islice
from typing import Any

from cachetools import LRUCache
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from urllib3 import HTTPResponse

from lib.host.pacs.dicom_fetch import FetchedSeries, fetch_series
from lib.host.pacs.series_copy import series_hash
from lib.host.requester import current_address
from lib.prompts.click import MAX_CLICKS
from lib.prompts.reading import ClickError, read_list, short

SERIES_HASH_KEY = "series_hash"
UNSEEN_S = 3600.0
"""A viewer that was open when the slices came has been closed or shown them by then, most likely."""
_HASH = re.compile(r"[0-9a-f]{64}")
_SOP_INSTANCE_UID, _SERIES_INSTANCE_UID = "00080018", "0020000E"
_AGAIN = "Open the study again, so that the viewer shows all of them, then set the clicks anew."

_loaded: LRUCache[tuple[str, str, str], str] = LRUCache(2**15)
"""Folder of the store, image, address -> hash of the slices that it loaded last."""
_clicked: LRUCache[tuple[str, str, tuple[float, ...]], str] = LRUCache(2**16)
"""Folder of the store, image, voxel -> hash of the slices on which it was clicked last."""
_lock = threading.Lock()


def current_hash(image_id: str, datastore: DICOMWebDatastore) -> str | None:
    """The ``series_hash`` of a series as the PACS has it now.

    Returns:
        None where the series cannot be fetched, or is no volume: a click says why.
    """
    try:
        return fetch_series(image_id, datastore, is_due=True).hash
    except HTTPException:
        return None


def note_loaded(image_id: str, datastore: DICOMWebDatastore, found: str) -> None:
    """Takes down which slices the client, whose request is being answered, gets to know.

    Args:
        image_id: SeriesInstanceUID.
        datastore: of the app.
        found: their ``series_hash``.
    """
    with _lock:
        _loaded[datastore._datastore.image_path(), image_id, current_address()] = found


def note_metadata(content: bytes, encoding: str | None, datastore: DICOMWebDatastore) -> None:
    """The same of an answer of the PACS to the client.

    Args:
        content: metadata of a series or a study in DICOM's JSON; anything else is passed over.
        encoding: of the content, as HTTP names it.
        datastore: of the app.
    """
    try:
        plain = HTTPResponse(BytesIO(content), {"Content-Encoding": encoding or "identity"}).data
        slices: dict[str, list[str]] = {}
        for instance in json.loads(plain):
            series, uid = (instance[tag]["Value"][0] for tag in (_SERIES_INSTANCE_UID, _SOP_INSTANCE_UID))
            slices.setdefault(str(series), []).append(str(uid).rstrip("\0 "))
    # Broad: it is whatever the PACS sent, and the viewer gets it all the same.
    except Exception:
        return
    for image_id, uids in slices.items():
        note_loaded(image_id, datastore, series_hash(uids))


def require_same_slices(image_id: str, datastore: DICOMWebDatastore, request: Mapping[str, Any]) -> str:
    """Fetches a series, and passes if the viewer has the same slices of it, by the rule above.

    Args:
        image_id: SeriesInstanceUID.
        datastore: of the app.
        request: of ``/infer``, with the clicks.

    Returns:
        The ``series_hash`` of the slices.

    Raises:
        HTTPException: 409 where it has others, 422 where ``series_hash`` is none; what ``fetch_series`` raises.
    """
    sent = read_series_hash(request)
    store, address = datastore._datastore.image_path(), current_address()
    with _lock:
        has = sent or _loaded.get((store, image_id, address))
    now = fetch_series(image_id, datastore)
    if has not in (None, now.hash):
        # The viewer may have loaded slices that the copy here lacks.
        now = fetch_series(image_id, datastore, is_due=True)
    clicks = [(store, image_id, voxel) for voxel in _voxels(request)]
    with _lock:
        is_repeated = any(_clicked.get(click, now.hash) != now.hash for click in clicks)
        if reason := _reason(sent, has, now, is_repeated=is_repeated):
            raise HTTPException(409, reason)
        _clicked.update(dict.fromkeys(clicks, now.hash))
    return now.hash


def read_series_hash(request: Mapping[str, Any]) -> str | None:
    """The hash that a request names; None where it names none.

    Raises:
        HTTPException: 422.
    """
    sent = request.get(SERIES_HASH_KEY)
    if sent is None or sent == "":
        return None
    if not isinstance(sent, str) or not _HASH.fullmatch(sent):
        raise HTTPException(
            422, f"series_hash is {short(sent)}; 64 hexadecimal digits are expected. Send what GET /datastore/image/"
            "info?image=... says when the series is loaded, or leave it out."
        )  # fmt: skip
    return sent


def _reason(sent: str | None, has: str | None, now: FetchedSeries, *, is_repeated: bool) -> str | None:
    if sent:
        return None if sent == now.hash else (
            f"series_hash is {short(sent)}, but the DICOMweb server has other slices of this series now, as while a "
            f"series arrives: {now.hash}. {_AGAIN} GET /datastore/image/info?image=... says which series_hash to send."
        )  # fmt: skip
    if has not in (None, now.hash):
        return f"{_other_than('when it was loaded from here')} {_AGAIN}"
    if has is None and now.changed_s < UNSEEN_S:
        minutes = math.ceil((UNSEEN_S - now.changed_s) / 60)
        return (
            f"{_other_than('when it was used here last')} {_AGAIN} A viewer that loads its images elsewhere is "
            f"answered again in {minutes} min; one that sends series_hash, at once."
        )
    if is_repeated:
        return (
            f"{_other_than('when some of these clicks were set')} {_AGAIN} If you mean these very voxels, send "
            "series_hash."
        )
    return None


def _other_than(when: str) -> str:
    return f"The DICOMweb server has other slices of this series than {when}, as while a series arrives."


def _voxels(request: Mapping[str, Any]) -> list[tuple[float, ...]]:
    """Clicks, under whatever key; what is wrong with them the task says."""
    lists = (_points(key, value) for key, value in request.items() if key not in ("box", "roi"))
    return list(islice(chain.from_iterable(lists), MAX_CLICKS))


def _points(key: str, value: Any) -> Iterable[tuple[float, ...]]:
    for one in value.values() if isinstance(value, Mapping) else [value]:
        try:
            listed = read_list(key, one)
        except ClickError:
            continue
        for point in listed:
            if isinstance(point, list | tuple) and len(point) == 3 and all(isinstance(n, int | float) for n in point):
                yield tuple(point)
