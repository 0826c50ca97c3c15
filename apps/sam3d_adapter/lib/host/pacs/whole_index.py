"""Patches: half an index in the cache of a PACS keeps the server from starting.

MONAI Label 0.8.5 writes the index into the very file (``monailabel/datastore/local.py:687``) and does not start over
one that it cannot read (``:671``). Here it is written whole, and one that is damaged is kept under another name: what a
PACS has is found out anew, and the names of its labels stand in its DICOM SEG files. We know of no upstream issue.
"""

import contextlib
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore

from lib.files.atomic_write import write_atomically
from lib.host.patches.version_guard import check_host_version
from lib.studies.index import IndexDamaged, index_bytes, read_index

logger = logging.getLogger(__name__)


def use_whole_index() -> None:
    """From now on every data store of a PACS does so."""
    check_host_version(__name__)
    DICOMWebDatastore._init_from_datastore_file = _read
    DICOMWebDatastore._update_datastore_file = _write


def _read(store: Any, throw_exception: bool = False) -> None:
    path = Path(store._datastore_config_path)
    try:
        read_index(path)
    except IndexDamaged as error:
        kept = path.with_name(f"{path.stem}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json")
        path.rename(kept)
        logger.error(
            "The index of the series that are here was damaged: %s. It is kept as '%s', and made anew.",
            error,
            kept.stem,
        )
    LocalDatastore._init_from_datastore_file(store, throw_exception)


def _write(store: Any, lock: bool = True) -> None:
    path = Path(store._datastore_config_path)
    with FileLock(store._lock_file) if lock else contextlib.nullcontext():
        store._ignore_event_config = True
        write_atomically(path, index_bytes(store._datastore.model_dump(exclude={"base_path"})))
        store._config_ts = os.stat(path).st_mtime
