"""Patches: of a PACS only CT is listed, and for two hours neither what arrives nor what is labelled is noticed.

MONAI Label 0.8.5 asks for the modality CT (``monailabel/config.py:69``), one value, for QIDO-RS need not match several;
keeps both lists for 7200 s (``monailabel/datastore/dicom.py:128``); asks, to renew the list of labelled series, for
every DICOM SEG of the PACS one by one (``:141``); and answers 500 to each click while the PACS does not answer, though
the series is here. So *Next Sample* shows labelled cases again, and MR never. We know of no upstream issue.
"""

import itertools
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import requests
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from pydicom.dataset import Dataset

from lib.annotations.label_names import normal_name
from lib.host.pacs.seg_reading import NO_IMAGE, image_of, is_of_this_program, why_not_learned_from, write_seg
from lib.host.patches.version_guard import check_host_version
from lib.presets import Preset

logger = logging.getLogger(__name__)

EXPIRY_S = 30
"""How long a list is kept, unless told otherwise: new ones cost a query for each modality and one for DICOM SEG."""
_FILTER, _EXPIRY = "MONAI_LABEL_DICOMWEB_SEARCH_FILTER", "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY"

Filter = Mapping[str, Any]


def modalities_for(presets: Iterable[Preset]) -> list[str]:
    """CT, and what has no unit where a preset does not ask for Hounsfield units."""
    without_unit = any(not preset.is_for_hu for preset in presets)
    return ["CT", "MR", "PT"] if without_unit else ["CT"]


def with_fresh_lists(datastore: Any, modalities: Collection[str], structures: Collection[str]) -> Any:
    """The data store; the lists of one that stands before a PACS are renewed every `EXPIRY_S` seconds.

    What an administrator sets in MONAI Label's own environment variables holds instead; there, a list of values in the
    filter means any of them.

    Args:
        datastore: as MONAI Label made it; of a PACS, its methods that list are replaced.
        modalities: DICOM's names of those whose series are listed.
        structures: names of what is segmented here.
    """
    if not isinstance(datastore, DICOMWebDatastore):
        return datastore
    check_host_version(__name__)
    chosen = settings.model_fields_set
    wanted = settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER if _FILTER in chosen else {"Modality": list(modalities)}
    expiry = settings.MONAI_LABEL_DICOMWEB_CACHE_EXPIRY if _EXPIRY in chosen else EXPIRY_S
    # MONAI Label has put its own defaults there, which its background tasks would take for an administrator's choice.
    os.environ[_FILTER], os.environ[_EXPIRY] = json.dumps(wanted), str(expiry)
    lists = PacsLists(datastore._client, wanted, expiry, structures, lambda image: _in_cache(datastore, image))
    save_label = datastore.save_label

    def save(*arguments: Any, **keywords: Any) -> str:
        label_id = save_label(*arguments, **keywords)
        lists.forget_labelled()
        return label_id

    replaced = {
        "list_images": lists.images,
        "get_labeled_images": lists.labelled,
        "study_of": lists.study_of,
        "save_label": save,
    }
    for name, method in replaced.items():
        setattr(datastore, name, method)
    return datastore


class PacsLists:
    """Which series a PACS has, and which of them a DICOM SEG refers to.

    A PACS that does not answer is taken to hold what it held last, for it to come back must not be waited for with
    every click. Of a DICOM SEG it is asked once
    what it labels.

    Args:
        client: DICOMweb client.
        wanted: QIDO-RS filter; a list of values means any of them.
        expiry_s: how long a list is kept.
        structures: names of what is segmented here; other DICOM SEG do not make a case labelled.
        image_file: the file of an image by its id; None where it was not fetched yet.
        clock: seconds, from anywhere.
    """

    def __init__(
        self,
        client: Any,
        wanted: Filter,
        expiry_s: float,
        structures: Collection[str],
        image_file: Callable[[str], Path | None] = lambda image: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._filters = client, one_by_one(wanted)
        self._names, self._image_file = {normal_name(name) for name in structures}, image_file
        self._images = _Kept(self._find_images, expiry_s, clock)
        self._labelled = _Kept(self._find_labelled, expiry_s, clock)
        self._labels: dict[str, str | None] = {}
        self._unread: dict[str, Dataset] = {}
        self._facts: dict[str, dict[str, str]] = {}

    def study_of(self, series: str) -> dict[str, str]:
        """``study`` (its UID), ``modality`` and ``description`` of a series of `images`; empty for another one."""
        return self._facts.get(series, {})

    def images(self) -> list[str]:
        """SeriesInstanceUIDs, each once.

        Raises:
            Exception: whatever the client does where the PACS has never answered.
        """
        return self._images.get()

    def labelled(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Those of `images` that a DICOM SEG refers to, each once; both arguments are ignored, as MONAI Label does.

        Raises:
            Exception: whatever the client does where the PACS has never answered.
        """
        listed = set(self.images())
        return [series for series in self._labelled.get() if series in listed]

    def forget_labelled(self) -> None:
        """The next question about labelled series goes to the PACS."""
        self._labelled.expire()

    def _find_images(self) -> list[str]:
        self._facts = {
            str(series.SeriesInstanceUID): {
                "study": str(series.get("StudyInstanceUID", "")),
                "modality": str(series.get("Modality", "")),
                "description": str(series.get("SeriesDescription", "")),
            }
            for wanted in self._filters
            for series in self._search(wanted)
        }
        return list(self._facts)

    def _find_labelled(self) -> list[str]:
        labelled = []
        for seg in self._search({"Modality": "SEG"}):
            study, series = str(seg.StudyInstanceUID), str(seg.SeriesInstanceUID)
            try:
                if series not in self._labels:
                    self._labels[series] = self._ask_what_it_labels(study, series)
                if series in self._unread:
                    self._read_once_fetched(series)
            except (requests.ConnectionError, requests.Timeout):
                raise
            # Broad: one that is damaged, or being stored just now, must not hide the others.
            except Exception:
                logger.warning("The PACS does not say what one of its DICOM SEG refers to.", exc_info=True)
                continue
            labelled.append(self._labels[series])
        return list(dict.fromkeys(series for series in labelled if series))

    def _ask_what_it_labels(self, study: str, series: str) -> str | None:
        """The series that a DICOM SEG labels; None where nothing can be learned from it."""
        seg = Dataset.from_json(self._client.retrieve_series_metadata(study, series)[0])
        # What was saved through a server like this one is learned from under whatever name.
        is_ours = is_of_this_program(seg)
        reason = "" if is_ours else why_not_learned_from(seg, self._names)
        image = image_of(seg, self._client) if not reason else ""
        if not image:
            _say_why_not(series, reason or NO_IMAGE)
            return None
        if not is_ours:
            self._unread[series] = seg
        return image

    def _read_once_fetched(self, series: str) -> None:
        """Reads a DICOM SEG as a training would, once its image is here: what it leaves out labels nothing."""
        file = self._image_file(self._labels[series] or "")
        if file is None:
            return
        if reason := self._ask_whether_it_can_be_read(self._unread[series], file):
            _say_why_not(series, reason)
            self._labels[series] = None
        del self._unread[series]

    def _ask_whether_it_can_be_read(self, seg: Dataset, image: Path) -> str:
        """Why a training would leave a DICOM SEG out; "" where it would not."""
        found = self._client.retrieve_series(str(seg.StudyInstanceUID), str(seg.SeriesInstanceUID))
        whole = next(one for one in found if one.SOPInstanceUID == seg.SOPInstanceUID)
        with tempfile.TemporaryDirectory(prefix="seg-") as folder:
            try:
                write_seg(whole, Path(folder) / "seg.nrrd", self._names, image)
            # Broad: a training leaves it out for whatever its damaged files lead to.
            except Exception as error:
                return str(error).rstrip(".")
        return ""

    def _search(self, wanted: Filter) -> list[Dataset]:
        return [Dataset.from_json(found) for found in self._client.search_for_series(search_filters=dict(wanted))]


class _Kept:
    """A list, and when it was asked for.

    Args:
        ask: for a new one.
        expiry_s: how long it is kept.
        clock: seconds, from anywhere.
    """

    def __init__(self, ask: Callable[[], list[str]], expiry_s: float, clock: Callable[[], float]) -> None:
        self._ask, self._expiry_s, self._clock = ask, expiry_s, clock
        self._list: list[str] | None = None
        self._until = float("-inf")
        self._lock = threading.Lock()

    def get(self) -> list[str]:
        with self._lock:
            if self._clock() >= self._until:
                self._renew()
            return list(self._list or ())

    def expire(self) -> None:
        with self._lock:
            self._until = float("-inf")

    def _renew(self) -> None:
        try:
            self._list = self._ask()
        # Broad: the client raises whatever HTTP, DICOM or network error it met.
        except Exception:
            if self._list is None:
                raise
            logger.warning("The DICOMweb server did not say what it has; its last answer holds on.", exc_info=True)
        # Counted from the answer on, for a PACS may take as long to give one.
        self._until = self._clock() + self._expiry_s


def _say_why_not(series: str, reason: str) -> None:
    logger.info("The DICOM SEG %s does not make a case labelled: %s.", series, reason)


def _in_cache(datastore: DICOMWebDatastore, image: str) -> Path | None:
    path = Path(LocalDatastore.get_image_uri(datastore, image) or "/")
    return path if path.is_file() else None


def one_by_one(wanted: Filter) -> list[dict[str, Any]]:
    """Filters of one value each, that together match what a filter with lists of values means."""
    values = [value if isinstance(value, list) else [value] for value in wanted.values()]
    return [dict(zip(wanted, chosen, strict=True)) for chosen in itertools.product(*values)]
