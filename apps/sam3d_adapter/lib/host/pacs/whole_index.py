"""Patches: half an index in the cache of a PACS keeps the server from starting; processes undo each other's changes.

MONAI Label 0.8.5 writes the index into the very file (``monailabel/datastore/local.py:687``) and does not start over
one that it cannot read (``:671``). It writes the index as this process knew it once, so that what another one saved
since is lost. Here it is written whole, each change begins with what is there, and one that is damaged is kept under
another name: what a PACS has is found out anew, and the names of its labels stand in its DICOM SEG files. We know of no
upstream issue.
"""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore, LocalDatastoreModel

from lib.files.atomic_write import write_atomically
from lib.host.patches.version_guard import check_host_version
from lib.studies.index import IndexDamaged, index_bytes, read_index

logger = logging.getLogger(__name__)


def use_whole_index() -> None:
    """From now on every data store of a PACS does so."""
    check_host_version(__name__)
    DICOMWebDatastore.__bases__ = (WholeIndex,)


def changing(store: LocalDatastore) -> AbstractContextManager[None]:
    """No other process or thread changes the index meanwhile, and it is known as it is now."""
    return store.changing() if isinstance(store, WholeIndex) else contextlib.nullcontext()


def _alone(host: Callable[..., Any]) -> Any:
    @functools.wraps(host)
    def change(self: "WholeIndex", *arguments: Any, **keywords: Any) -> Any:
        with self.changing():
            return host(self, *arguments, **keywords)

    return change


class WholeIndex(LocalDatastore):
    """What a data store of a PACS is made of: MONAI Label's of a folder, with an index that processes share."""

    add_image = _alone(LocalDatastore.add_image)
    save_label = _alone(LocalDatastore.save_label)
    remove_label = _alone(LocalDatastore.remove_label)
    update_image_info = _alone(LocalDatastore.update_image_info)
    update_label_info = _alone(LocalDatastore.update_label_info)
    set_name = _alone(LocalDatastore.set_name)
    set_description = _alone(LocalDatastore.set_description)
    _reconcile_datastore = _alone(LocalDatastore._reconcile_datastore)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """As `changing`; may be nested."""
        with self._changes:
            self._init_from_datastore_file()
            yield

    @functools.cached_property
    def _changes(self) -> FileLock:
        # Not MONAI Label's own, which its methods take inside of a change.
        return FileLock(os.path.join(self._datastore_path, ".changes.lock"))

    @property
    def _datastore(self) -> LocalDatastoreModel:
        # In a change of this thread, the index is newer than its file.
        if not self._changes.is_locked and self._is_behind():
            self._init_from_datastore_file()
        return self._model

    @_datastore.setter
    def _datastore(self, model: LocalDatastoreModel) -> None:
        self._model = model

    def _is_behind(self) -> bool:
        try:
            return os.stat(self._datastore_config_path).st_mtime != self._config_ts
        except FileNotFoundError:
            return False

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        with self._changes:
            if not self._is_behind():
                return
            path = Path(self._datastore_config_path)
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
            super()._init_from_datastore_file(throw_exception)

    def _update_datastore_file(self, lock: bool = True) -> None:
        path = Path(self._datastore_config_path)
        with FileLock(self._lock_file) if lock else contextlib.nullcontext():
            self._ignore_event_config = True
            write_atomically(path, index_bytes(self._model.model_dump(exclude={"base_path"})))
            self._config_ts = os.stat(path).st_mtime
