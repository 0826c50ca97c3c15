"""A folder of images, its labels and its index: every change of them is done here, and done as a whole.

Several processes may use one folder. Changes are made under a lock that all of them share, on the index as it is on the
disk at that moment; reading needs no lock, because files are replaced by renaming. What was changed by hand is noticed
by the times of the folders, at the next question.
"""

import contextlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.files.atomic_write import sync_folder, write_atomically
from lib.files.checksums import copy_with_sha256, file_sha256
from lib.files.folders import remove_leftovers
from lib.files.lock import file_lock, locked
from lib.studies.index import (
    NAME,
    Index,
    IndexDamaged,
    empty_index,
    index_bytes,
    is_plain_name,
    read_index,
    write_index,
)
from lib.studies.label_changes import HISTORY, By, LabelChange, LabelFiles
from lib.studies.listing import Entry, Listing, Reconciled, list_folder, reconcile

logger = logging.getLogger(__name__)

ENDINGS = (".nii.gz", ".nii", ".nrrd")
"""Of files that are served unless told otherwise."""

_LOCK_TIMEOUT_S = 10.0
_SETTLED_NS = 2_000_000_000
"""A folder that was changed within this time may be changed once more without a new time."""
_FORSAKEN_S = 3600.0
_IMAGE_INFO = ".images.json"
_PARTIAL, _RANDOM_BYTES = ".partial", 8
_TAGS = ("final", "original")
_EMPTY_INFO = {"ts", "name"}


class StudiesError(OSError):
    """The folder cannot be used as it is; a sentence for users, with what to do and without a path."""


class Unknown(LookupError):
    """There is no such image, label or entry of the history; the text says which."""


class Taken(FileExistsError):
    """There is another image of that id."""


class StudiesFolder:
    """A folder of images; nothing is written into it before something has to be.

    Args:
        folder: may be away for a while; it is never made here.
        endings: of images and labels.
        told: called with each change of a label when it was carried out; more than once where a process was killed.
        is_watched: whether changes of others are looked for with every question.
        may_write: whether an index that does not fit the folder is written anew of its own accord.
    """

    def __init__(
        self,
        folder: Path,
        endings: Sequence[str] = ENDINGS,
        *,
        told: Callable[[LabelChange], None] | None = None,
        is_watched: bool = True,
        may_write: bool = True,
    ) -> None:
        self.path, self.endings = folder, tuple(endings)
        self._told, self._is_watched, self._may_write = told or (lambda change: None), is_watched, may_write
        self._lock = file_lock(folder / ".lock", _LOCK_TIMEOUT_S)
        self._mutex = threading.RLock()
        self._index = empty_index()
        self._identity: tuple[int, int] | None = None
        self._seen: tuple[Any, ...] | None = None
        self._is_settled = False
        self._depth = 0
        self._is_opening = False
        self._files = LabelFiles(folder, folder / self._index["labels_dir"])

    @property
    def images(self) -> Path:
        """Where the images lie."""
        return self.path / self._index["images_dir"]

    @property
    def labels(self) -> Path:
        """Where the labels lie, in a folder for each tag."""
        return self.path / self._index["labels_dir"]

    def open(self) -> None:
        """At the start: carries out what was interrupted, mends the index, keeps names beside their labels.

        Whatever is wrong with the folder, this returns, and `problem` says it.
        """
        with self._mutex:
            self._is_opening = True
            self._refresh()
            self._is_opening = False
            if problem := self.problem():
                logger.warning("%s", problem)
            if problem or not self._may_write or not self._index["objects"]:
                return
            try:
                with self._changing() as index:
                    self._sweep()
                    self._keep_names(index)
            except OSError as error:
                logger.warning("The folder of images stays as it is (%s).", error.strerror or error)

    def index(self) -> Index:
        """The index as the folder is now, not to be changed; of a folder that is away, as it was last."""
        with self._mutex:
            if self._is_watched and not self._depth:
                self._refresh()
            return self._index

    def refresh(self) -> None:
        """Looks at the folder anew."""
        with self._mutex:
            self._seen = None
            self._refresh()

    def away(self) -> str | None:
        """Why the images cannot be reached, with what to do; None where they can."""
        known = self._index["objects"]
        try:
            found = self.path.stat()
            is_empty = not os.access(self.images, os.R_OK | os.X_OK)
        except OSError:
            held = f"; it held {len(known)} images" if known else ""
            return f"The folder of images is not there{held}. {_BACK}"
        if is_empty:
            return f"The folder of images cannot be opened. Give the server the right to read it. {_BACK}"
        is_same = self._identity in (None, (found.st_dev, found.st_ino)) and (self.path / NAME).exists()
        # An empty folder where a disk was mounted, or another one, must not be taken for the images.
        if not known or is_same or any(self._image_path(name, case).exists() for name, case in known.items()):
            return None
        return f"The folder of images is there, but none of the {len(known)} images that it held. {_BACK}"

    def problem(self) -> str | None:
        """What users should know of the folder: that it is away, or cannot be written to; None where all is well."""
        if (away := self.away()) is not None:
            return away
        if os.access(self.path, os.W_OK):
            return None
        return (
            "The folder of images cannot be written to: clicks are answered, but no label or image can be saved. Give "
            "the server the right to write there, or mount the folder writable; no restart is needed."
        )

    def require(self) -> None:
        """Passes if the images can be reached.

        Raises:
            StudiesError: they cannot.
        """
        if (away := self.away()) is not None:
            raise StudiesError(away)

    # Images

    def add_image(self, image: str, ending: str, source: Path, info: Mapping[str, Any]) -> None:
        """Copies an image into the folder; it is there as a whole, or not at all.

        Raises:
            Taken: another image has this id.
            StudiesError: the folder is away, or another process keeps it locked.
            OSError: nothing was changed.
        """
        self._require_listed(image, ending)
        self.require()
        target = self.images / f"{image}{ending}"
        partial = self.images / f".{secrets.token_hex(_RANDOM_BYTES)}{_PARTIAL}"
        try:
            sha256, _ = copy_with_sha256(source, partial)
            with self._changing() as index:
                if target.exists():
                    if file_sha256(target) != sha256:
                        raise Taken(f"There is another image {image!r}.")
                    return
                entry = _entry(ending, info, target.name)
                self._keep_image_info(image, partial, entry)
                index["objects"][image] = {"image": entry, "labels": {}}
                # First the index: what it names and is not there is taken out of it, and nothing is lost by that.
                self._write(index)
                partial.rename(target)
                sync_folder(target.parent)
        finally:
            partial.unlink(missing_ok=True)

    def delete_image(self, image: str, by: By) -> None:
        """Removes an image; its labels go into the history.

        Raises:
            Unknown: no such image.
            OSError: some of it is still there.
        """
        with self._changing() as index:
            case = self._case(index, image)
            for tag in case["labels"]:
                self.delete_label(image, tag, by)
            self._image_path(image, case).unlink(missing_ok=True)
            sync_folder(self.images)
            self._current()
            self._write_image_info({name: kept for name, kept in self._kept_image_info().items() if name != image})

    def describe_image(self, image: str, info: Mapping[str, Any]) -> None:
        """Adds to what is kept of an image.

        Raises:
            Unknown: no such image.
            OSError: nothing was changed.
        """
        with self._changing() as index:
            case = self._case(index, image)
            case["image"]["info"] |= _storable(info)
            self._keep_image_info(image, self._image_path(image, case), case["image"])
            self._write(index)

    def describe(self, **texts: str) -> None:
        """Sets ``name`` or ``description`` of the folder."""
        with self._changing() as index:
            self._write(index | texts)

    # Labels

    def save_label(
        self, image: str, tag: str, ending: str, source: Path, info: Mapping[str, Any], by: By
    ) -> LabelChange:
        """Saves a label with its names; the one before is kept in the history.

        Args:
            image: id.
            tag: of the label.
            ending: of the file, as in ``endings``.
            source: file of the label.
            info: names of the segments, and whatever else is to be kept beside it.
            by: who asks for it.

        Raises:
            Unknown: no such image.
            StudiesError: the folder is away, or another process keeps it locked.
            OSError: nothing was changed, or the change is carried out later.
        """
        return self._save("submit", image, tag, ending, source, info, by)

    def describe_label(self, image: str, tag: str, info: Mapping[str, Any], by: By) -> LabelChange:
        """Adds to what is kept of a label; what was there before stays in the history.

        Raises:
            Unknown: no such label.
            OSError: nothing was changed, or the change is carried out later.
        """
        with self._changing() as index:
            old = self._label(index, image, tag)
            new = {"ext": old["ext"], "info": old["info"] | _storable(info)}
            return self._change("describe", index, image, tag, by, old=old, new=new)

    def delete_label(self, image: str, tag: str, by: By) -> LabelChange:
        """Removes a label; it is kept in the history.

        Raises:
            Unknown: no such label.
            OSError: nothing was changed, or the change is carried out later.
        """
        with self._changing() as index:
            return self._change("delete", index, image, tag, by, old=self._label(index, image, tag))

    def restore_label(self, image: str, tag: str, change: str | None, by: By) -> LabelChange:
        """Brings a former label back with its names; the present one is kept in the history.

        Args:
            image: id.
            tag: of the label.
            change: id of the change that replaced or deleted it; None for the last one that did.
            by: who asks for it.

        Raises:
            Unknown: no such image, or no such former label.
            StudiesError: the file in the history is damaged, or as in `save_label`.
            OSError: nothing was changed, or the change is carried out later.
        """
        with self._changing():
            found = [each for each in self._files.changes(image, tag) if change in (None, each.id)]
            former = [(each.old, path) for each in found if (path := self._files.former(each)) and each.old]
            if not former:
                which = f" under the id {change}" if change else ""
                raise Unknown(f"There is no former label of image {image!r} with tag {tag!r}{which}.")
            note, path = former[-1]
            if file_sha256(path) != note["sha256"]:
                raise StudiesError("The former label is not what it was when it was kept. Restore another one.")
            ending = note["file"].removeprefix(image)
            return self._save("restore", image, tag, ending, path, note["info"], by)

    def history(self, image: str | None = None, tag: str | None = None) -> list[LabelChange]:
        """Changes of labels, oldest first, those that can be restored and those that cannot.

        Args:
            image: of this image alone.
            tag: of labels with this tag alone.
        """
        return self._files.changes(image, tag)

    def former(self, change: LabelChange) -> Path | None:
        """File of the label that a change replaced or deleted; None where there is none."""
        return self._files.former(change)

    def note(self, image: str, tag: str) -> dict[str, Any] | None:
        """What is kept beside a label."""
        return self._files.note(image, tag)

    def _save(
        self, action: str, image: str, tag: str, ending: str, source: Path, info: Mapping[str, Any], by: By
    ) -> LabelChange:
        self._require_listed(tag, ending)
        with self._changing() as index:
            old = self._case(index, image)["labels"].get(tag)
            new = {"ext": ending, "info": dict(info)} if action == "restore" else _entry(ending, info, image + ending)
            if action == "submit" and old is not None:
                action = "overwrite"
            return self._change(action, index, image, tag, by, old=old, source=source, new=new)

    def _change(
        self,
        action: str,
        index: Index,
        image: str,
        tag: str,
        by: By,
        *,
        old: Entry | None,
        source: Path | None = None,
        new: Entry | None = None,
    ) -> LabelChange:
        labels = index["objects"][image]["labels"]
        after = {key: entry for key, entry in labels.items() if key != tag} | ({tag: new} if new else {})
        objects = index["objects"] | {image: index["objects"][image] | {"labels": after}}
        content = index_bytes(index | {"objects": objects})
        number = self._files.prepare(action, image, tag, by, old=old, source=source, new=new, index=content)
        return self._finish(number)

    def _finish(self, number: str, *, is_late: bool = False) -> LabelChange:
        change = self._files.finish(number, is_late=is_late)
        try:
            self._told(change)
        # Broad: whoever listens, the label is saved.
        except Exception:
            logger.exception("A change of a label was not passed on.")
        self._files.close(change)
        return change

    def _require_listed(self, name: str, ending: str) -> None:
        # Who hands on what a client sent has looked at it; what nobody would find again is not saved.
        if not is_plain_name(name) or name.startswith(".") or ending not in self.endings:
            raise ValueError(f"{name!r} and {ending!r} cannot be parts of the name of an image or a label.")

    def _label(self, index: Index, image: str, tag: str) -> Entry:
        entry = self._case(index, image)["labels"].get(tag)
        if entry is None:
            raise Unknown(f"There is no label of image {image!r} with tag {tag!r}.")
        return entry

    def _case(self, index: Index, image: str) -> dict[str, Any]:
        if image not in index["objects"]:
            raise Unknown(f"There is no image {image!r}.")
        return index["objects"][image]

    def _image_path(self, image: str, case: Mapping[str, Any]) -> Path:
        return self.images / f"{image}{case['image']['ext']}"

    # The index

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Index]:
        """Holds the lock; the index as it is now, to be changed and written."""
        busy = StudiesError("Another server keeps the folder of images locked. Try again.")
        with self._mutex:
            # Before the lock, whose file would be put into a folder that is not the right one.
            self.require()
            with locked(self._lock, busy):
                self._depth += 1
                try:
                    if self._depth == 1:
                        self._recover()
                    yield self._current()
                finally:
                    self._depth -= 1
                    if not self._depth:
                        self._seen = None
                        with contextlib.suppress(OSError, IndexDamaged):
                            self._take(self._stored() or self._index)

    def _refresh(self) -> None:
        if self.away() is not None:
            self._seen = None
            return
        seen, newest = self._signature()
        if seen == self._seen and self._is_settled:
            return
        self._is_settled = time.time_ns() - newest > _SETTLED_NS
        try:
            self._catch_up()
        except OSError as error:
            logger.warning("The folder of images cannot be listed (%s).", error.strerror or type(error).__name__)
            self._seen = None
            return
        self._seen = seen

    def _catch_up(self) -> None:
        """Takes over what others changed; writes the index where it does not fit the folder."""
        damaged = False
        try:
            stored = self._stored()
        except IndexDamaged:
            stored, damaged = None, True
        found = self._reconciled(stored or empty_index())
        if (damaged or found.is_changed or self._files.pending()) and self._may_write:
            try:
                with self._changing():
                    return
            except OSError as error:
                logger.warning(
                    "The index of the images does not fit the folder and cannot be written (%s); it is used as it "
                    "should be.",
                    error.strerror or error,
                )
        self._take(found.index)

    def _recover(self) -> None:
        """Carries out changes whose process was killed."""
        for number in self._files.pending():
            try:
                change = self._finish(number, is_late=True)
            except (ValueError, TypeError, KeyError, FileNotFoundError, NotADirectoryError):
                logger.exception("A change of a label that was interrupted cannot be read; it is set aside.")
                self._files.give_up(number)
            else:
                logger.warning("A change of a label that was interrupted is carried out: %s.", change.action)
        self._files.remove_unfinished()

    def _current(self) -> Index:
        """The index on the disk, in line with the folder; with the lock held."""
        try:
            stored = self._stored()
        except IndexDamaged as error:
            stored = None
            kept = self._path_aside("damaged")
            (self.path / NAME).rename(kept)
            logger.error(
                "The index of the images was damaged: %s. It is kept as '%s', and made anew from the files.",
                error,
                kept.stem,
            )
        found = self._reconciled(stored or empty_index())
        if found.dropped and self._is_opening:
            kept = self._path_aside("before")
            shutil.copyfile(self.path / NAME, kept)
            logger.warning("The index named %d files that are not there. It is kept as '%s'.", found.dropped, kept.stem)
        if found.is_changed or stored is None and found.index["objects"]:
            logger.info(
                "The index of the images follows the folder: %d images and labels came, %d are gone; %d images now.",
                found.added,
                found.dropped,
                len(found.index["objects"]),
            )
            self._write(found.index)
        return found.index

    def _stored(self) -> Index | None:
        return read_index(self.path / NAME)

    def _reconciled(self, index: Index) -> Reconciled:
        self._take(index | {"objects": self._index["objects"]})
        listing = self._listing()
        kept = self._kept_image_info() if listing.images.keys() - index["objects"].keys() else {}
        return reconcile(
            index, listing, lambda image, ending: self._found_image(image, ending, kept), self._found_label
        )

    def _listing(self) -> Listing:
        return list_folder(self.images, self.labels, self.endings)

    def _take(self, index: Index) -> None:
        self._index = index
        self._files = LabelFiles(self.path, self.labels)
        if index["objects"]:
            with contextlib.suppress(OSError):
                found = self.path.stat()
                self._identity = found.st_dev, found.st_ino

    def _write(self, index: Index) -> None:
        for tag in _TAGS:
            (self.labels / tag).mkdir(parents=True, exist_ok=True)
        write_index(self.path / NAME, index)

    def _path_aside(self, why: str) -> Path:
        return self.path / f"{Path(NAME).stem}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"

    def _signature(self) -> tuple[tuple[Any, ...], int]:
        """What differs after any change of the folder, and the newest time in it, ns since 1970."""
        labels = self.labels
        paths = [self.path, self.path / NAME, self.images, labels, self.path / HISTORY / ".pending"]
        with contextlib.suppress(OSError):
            paths += [labels / name for name in os.listdir(labels)]
        states: list[Any] = []
        newest = 0
        for path in paths:
            try:
                found = path.stat()
            except OSError:
                states.append(None)
                continue
            states.append((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))
            newest = max(newest, found.st_mtime_ns)
        return tuple(states), newest

    # What is known of files that the index lacks

    def _found_image(self, image: str, ending: str, kept: Mapping[str, Any]) -> Entry:
        path = self.images / f"{image}{ending}"
        known = kept.get(image)
        with contextlib.suppress(OSError, KeyError, TypeError):
            if known and known["file"] == _state(path):
                return {"ext": ending, "info": dict(known["info"])}
        return _found_entry(path, ending)

    def _found_label(self, image: str, tag: str, endings: Sequence[str]) -> Entry:
        with contextlib.suppress(OSError):
            if note := self._files.matching_note(image, tag, tuple(endings)):
                return {"ext": note["file"].removeprefix(image), "info": note["info"]}
        return _found_entry(self.labels / tag / f"{image}{endings[0]}", endings[0])

    def _keep_names(self, index: Index) -> None:
        """Notes for labels that have none, and names from the notes for labels that lost theirs."""
        found = 0
        for image, case in index["objects"].items():
            for tag, entry in case["labels"].items():
                if entry["info"].keys() - _EMPTY_INFO:
                    self._files.keep_note(image, tag, entry)
                elif (note := self._files.matching_note(image, tag, (entry["ext"],))) and note["info"] != entry["info"]:
                    entry["info"], found = note["info"], found + 1
        if found:
            logger.warning("Names of %d labels that the index had lost are back.", found)
            self._write(index)
        described = {name: case["image"] for name, case in index["objects"].items()}
        if not (self.path / HISTORY / _IMAGE_INFO).exists() and any(
            image["info"].keys() - _EMPTY_INFO for image in described.values()
        ):
            self._write_image_info({name: self._image_note(name, image) for name, image in described.items()})

    def _kept_image_info(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            kept = json.loads((self.path / HISTORY / _IMAGE_INFO).read_bytes())
            json.dumps(kept, allow_nan=False, ensure_ascii=False).encode()
            if isinstance(kept, dict):
                return kept
        return {}

    def _keep_image_info(self, image: str, file: Path, entry: Entry) -> None:
        self._write_image_info(self._kept_image_info() | {image: {"file": _state(file), "info": entry["info"]}})

    def _image_note(self, image: str, entry: Entry) -> dict[str, Any]:
        return {"file": _state(self.images / f"{image}{entry['ext']}"), "info": entry["info"]}

    def _write_image_info(self, kept: Mapping[str, Any]) -> None:
        (self.path / HISTORY).mkdir(exist_ok=True)
        write_atomically(self.path / HISTORY / _IMAGE_INFO, json.dumps(kept, default=str).encode())

    def _sweep(self) -> None:
        """Removes temporary files of killed processes; with the lock held."""
        old = time.time() - _FORSAKEN_S
        homes = [self.path, self.path / HISTORY, *(self.labels / name for name in os.listdir(self.labels))]
        partial = [path for home in homes for path in home.glob(f"*{_PARTIAL}")]
        # Images are copied without the lock, and may be on their way.
        coming = re.compile(rf"\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}\{_PARTIAL}")
        with contextlib.suppress(OSError):
            remove_leftovers(path for path in partial if not coming.fullmatch(path.name) or path.stat().st_mtime < old)


_BACK = (
    "If it lies on a network or another disk, mount it again; if it was moved, move it back. It is served again "
    "without a restart."
)


def _entry(ending: str, info: Mapping[str, Any], name: str) -> Entry:
    return {"ext": ending, "info": _storable(info) | {"ts": int(time.time()), "name": name}}


def _found_entry(path: Path, ending: str) -> Entry:
    """Of a file of which nothing is known."""
    entry = _entry(ending, {}, path.name)
    with contextlib.suppress(OSError):
        entry["info"]["ts"] = int(path.stat().st_mtime)
    return entry


def _storable(info: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from the disk; numbers that are not finite, which JSON does not have, as texts."""
    return json.loads(json.dumps(info, default=str), parse_constant=str)


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, int(found.st_mtime)]
