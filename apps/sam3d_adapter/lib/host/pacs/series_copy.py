"""The copy of a series of a PACS in the cache of the data store: never half of one, and replaced at once.

Patches: MONAI Label 0.8.5 writes slices one by one to where they are looked for
(``monailabel/datastore/utils/dicom.py:84``), loses the errors of slices that it fetches frame by frame (``:108``),
copies the NIfTI made of them over what readers may have open (``monailabel/datastore/local.py:445``), and drops an
image's labels from its index when the image is added again (``:452``). We know of no upstream issue.
"""

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import DataModel, ImageLabelModel
from monailabel.datastore.utils.dicom import dicom_web_download_series

from lib.files.atomic_write import replacing
from lib.host.pacs.whole_index import changing
from lib.host.patches.version_guard import check_host_version
from lib.volumes.dicom_image import read_image
from lib.volumes.dicom_series import DicomSeries
from lib.volumes.nifti_frame import is_same_affine

logger = logging.getLogger(__name__)

_SUFFIX = ".nii.gz"
_PARTIAL = ".partial"
_ABANDONED_S = 3600.0
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
WORKERS = 2
"""Threads that ask a PACS which slices it has: one that is silent must not keep them from asking about other series."""
_workers = ThreadPoolExecutor(WORKERS, "series-listing")
_questions: dict[Path, Future[frozenset[str]]] = {}
"""By the folder of the series: those that nobody waits for any more, and that are not answered."""
_SOP_INSTANCE_UID, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID = "00080018", "0020000D", "0020000E"


class IncompleteTransfer(RuntimeError):
    """The PACS sent less than it has."""


def series_hash(uids: Iterable[str]) -> str:
    """sha256 of the SOPInstanceUIDs of a series, sorted, a line each: any client that has the slices can work it out.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256("\n".join(sorted(uids)).encode()).hexdigest()


class SeriesCopy:
    """The files of one series in the cache: a folder of slices, and the NIfTI made of them.

    Args:
        image_id: SeriesInstanceUID.
        datastore: of the app.
    """

    def __init__(self, image_id: str, datastore: DICOMWebDatastore) -> None:
        check_host_version(__name__)
        self._id, self._datastore = image_id, datastore
        self.folder = Path(os.path.realpath(os.path.join(datastore._datastore.image_path(), image_id)))
        self._nifti = self.folder.with_name(image_id + _SUFFIX)
        self._study = ""

    def is_there(self) -> bool:
        """Whether there is any slice."""
        return self.folder.is_dir() and any(self.folder.iterdir())

    def was_given_out(self) -> bool:
        """Whether there is a NIfTI beside the slices, as an earlier process leaves it."""
        return self.is_there() and self._nifti.is_file()

    def held(self) -> frozenset[str]:
        """SOPInstanceUIDs of the slices."""
        return _uids(self.folder) if self.folder.is_dir() else frozenset()

    def listed(self, wait_s: float) -> frozenset[str] | None:
        """SOPInstanceUIDs of what the PACS has of the series; None where it does not answer.

        A question that it has not answered yet is not waited for once more. Callers take turns with a series.

        Args:
            wait_s: at most, in seconds; the client itself waits longer.
        """
        question = _questions.pop(self.folder, None)
        if question is None or question.done():
            question = _workers.submit(self._ask)
            wait([question], wait_s)
        if not question.done():
            # One that no worker has taken up is taken back: they never have more to do than they began.
            if not question.cancel():
                _questions[self.folder] = question
            logger.warning("The DICOMweb server did not say within %g s which slices a series has.", wait_s)
            return None
        try:
            return question.result()
        # Broad: the client raises whatever HTTP or DICOM error it met.
        except Exception:
            logger.warning("The DICOMweb server did not say which slices a series has.", exc_info=True)
            return None

    def download(self, listed: frozenset[str] | None) -> None:
        """Fetches all slices anew; what was there before stays until they have come.

        Args:
            listed: SOPInstanceUIDs that have to be among them; None where they are not known.

        Raises:
            IndexError: the PACS has no such series.
            IncompleteTransfer: it sent less than it has.
            Exception: whatever HTTP, DICOM or file error the client met.
        """
        study = self._find_study()
        self._remove_abandoned()
        fresh = self._partial()
        try:
            fresh.mkdir(parents=True)
            dicom_web_download_series(
                study, self._id, str(fresh), self._datastore._client, self._datastore._fetch_by_frame
            )
            if not (came := _uids(fresh)):
                raise IndexError("no slices came")
            if not came >= (listed or came):
                raise IncompleteTransfer(f"{len(came)} slices came of {len(listed or ())}.")
            self._put(fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def convert(self, series: DicomSeries, *, is_new: bool, is_known: bool) -> None:
        """Makes the NIfTI of the slices, if it is not there, older than they are, or another; the image's labels stay.

        Args:
            series: the slices.
            is_new: whether to make it whatever is there.
            is_known: whether its grid needs no look, as it was looked at before.

        Raises:
            ImageError: the slices cannot be read.
            MemoryShortage: they are too many for this server at the moment.
            Exception: whatever HTTP, ITK or file error was met.
        """
        if not self._datastore._convert_to_nifti or not (is_new or self._is_stale()):
            if is_known or self._fits(series):
                return
            logger.warning("A cached series is converted anew: its NIfTI has other places or values than its slices.")
        image = read_image(series, self._id)
        info = self._describe()
        with tempfile.TemporaryDirectory(prefix="series-") as folder, replacing(self._nifti) as partial:
            # SimpleITK goes by the end of the name, and so does what watches the cache.
            made = Path(folder) / self._nifti.name
            sitk.WriteImage(image, str(made))
            shutil.copyfile(made, partial)
        self._register(info)

    def remove_slices(self) -> None:
        """So that they are fetched again."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _describe(self) -> dict[str, str]:
        try:
            return dict(self._datastore._dicom_info(self._id))
        # Broad: the client raises whatever HTTP or DICOM error it met.
        except Exception:
            # Of an image that is in the index, that is known.
            if not self._datastore.get_image_info(self._id):
                raise
            return {}

    def _ask(self) -> frozenset[str]:
        found = self._datastore._client.search_for_instances(self._find_study(), self._id)
        return frozenset(str(instance[_SOP_INSTANCE_UID]["Value"][0]) for instance in found)

    def _find_study(self) -> str:
        # The index has "UNK" for what it was not told, and nothing for an image that it found as a file.
        known = self._study or str(self._datastore.get_image_info(self._id).get("StudyInstanceUID", ""))
        if not known[:1].isdigit():
            found = self._datastore._client.search_for_series(search_filters={"SeriesInstanceUID": self._id})
            series = [one for one in found if one[_SERIES_INSTANCE_UID]["Value"] == [self._id]][0]
            known = str(series[_STUDY_INSTANCE_UID]["Value"][0])
        self._study = known
        return known

    def _put(self, fresh: Path) -> None:
        old = self._partial()
        # Killed between the two, the series is fetched again; before the NIfTI is made of it, that is older.
        with contextlib.suppress(FileNotFoundError):
            self.folder.rename(old)
        try:
            fresh.rename(self.folder)
        except OSError:
            # Another process was faster, with the same slices.
            if not self.is_there():
                raise
        shutil.rmtree(old, ignore_errors=True)

    def _is_stale(self) -> bool:
        try:
            return self._nifti.stat().st_mtime_ns < self.folder.stat().st_mtime_ns
        except FileNotFoundError:
            return True

    def _fits(self, series: DicomSeries) -> bool:
        """Whether the NIfTI has the series' grid and type: former releases stacked frames as they were stored."""
        try:
            image = nib.load(self._nifti)
        # Broad: nibabel passes on whatever a damaged header led to.
        except Exception:
            return False
        return (
            image.shape == series.shape
            and (image.get_data_dtype().kind == "f" or not series.is_float)
            # Former releases turned its values round, which the NIfTI does not tell.
            and not series.is_inverted
            and is_same_affine(_RAS_FROM_LPS @ np.array(series.index_to_lps), image.affine, series.shape)
        )

    def _register(self, info: dict[str, str]) -> None:
        store = self._datastore
        with changing(store):
            objects = store._datastore.objects
            known = objects.get(self._id)
            told = {**(known.image.info if known else {}), **info, "ts": int(time.time()), "name": self._nifti.name}
            labels = known.labels if known else {}
            objects[self._id] = ImageLabelModel(image=DataModel(info=told, ext=_SUFFIX), labels=labels)
            store._update_datastore_file()

    def _partial(self) -> Path:
        return self.folder.with_name(f".{self._id}.{os.getpid()}-{secrets.token_hex(4)}{_PARTIAL}")

    def _remove_abandoned(self) -> None:
        """What killed processes left; another process may be at work on a newer one."""
        for path in self.folder.parent.glob(f".{self._id}.*{_PARTIAL}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(path, ignore_errors=True)


def _uids(folder: Path) -> frozenset[str]:
    # The host names them so.
    return frozenset(file.stem for file in folder.iterdir())
