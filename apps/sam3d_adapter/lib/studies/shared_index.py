"""The index of a folder of images, as several processes share it.

Changes are made under a lock that all of them share, on the index as it is on the disk at that moment; reading needs no
lock, because files are replaced by renaming. What was changed by hand is noticed by the times of the folders, at the
next question.
"""

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.files.lock import file_lock, locked
from lib.studies.entries import Entry, ImageNotes, entry_of_note, found_entry, is_described
from lib.studies.index import NAME, Index, IndexDamaged, empty_index, read_index, write_index
from lib.studies.label_changes import HISTORY, LabelChange, LabelFiles
from lib.studies.listing import Reconciled, list_folder, reconcile
from lib.studies.presence import Presence, StudiesError

logger = logging.getLogger(__name__)

_LOCK_TIMEOUT_S = 10.0
_SETTLED_NS = 2_000_000_000
"""A folder that was changed within this time may be changed once more without a new time."""
_TAGS = ("final", "original")
_CANNOT_BE_DONE = (
    *(ValueError, TypeError, KeyError),
    *(FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError),
)
"""What would come again at every attempt; a disk that is full or read-only may be another one next time."""


class SharedIndex:
    """The index; nothing is written into the folder before something has to be.

    Args:
        folder: of images; may be away for a while, and is never made here.
        endings: of images and labels.
        finish: carries out a change of a label that was interrupted, by its id.
        is_watched: whether changes of others are looked for with every question.
        may_write: whether an index that does not fit the folder is written anew of its own accord.

    Attributes:
        files: labels, their notes and their history.
        image_notes: notes of images.
    """

    def __init__(
        self,
        folder: Path,
        endings: Sequence[str],
        finish: Callable[[str], LabelChange],
        *,
        is_watched: bool,
        may_write: bool,
    ) -> None:
        self._folder, self._endings, self._finish = folder, tuple(endings), finish
        self._is_watched, self._may_write = is_watched, may_write
        self._presence = Presence(folder)
        self._lock = file_lock(folder / ".lock", _LOCK_TIMEOUT_S)
        self._mutex = threading.RLock()
        self._index = empty_index()
        self._seen: tuple[Any, ...] | None = None
        self._is_settled = False
        self._depth = 0
        self._is_opening = False
        self.image_notes = ImageNotes(folder)
        self.files = LabelFiles(folder, self.labels)

    @property
    def images(self) -> Path:
        """Where the images lie."""
        return self._folder / self._index["images_dir"]

    @property
    def labels(self) -> Path:
        """Where the labels lie, in a folder for each tag."""
        return self._folder / self._index["labels_dir"]

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
                with self.changing() as index:
                    self.files.remove_temporary()
                    self._keep_names(index)
            except OSError as error:
                logger.warning("The folder of images stays as it is (%s).", error.strerror or error)

    def now(self) -> Index:
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
        return self._presence.away(self.images, self._index["objects"])

    def problem(self) -> str | None:
        """What users should know of the folder: that it is away, or cannot be written to; None where all is well."""
        return self.away() or self._presence.read_only()

    def require(self) -> None:
        """Passes if the images can be reached.

        Raises:
            StudiesError: they cannot.
        """
        if (away := self.away()) is not None:
            raise StudiesError(away)

    @contextlib.contextmanager
    def changing(self) -> Iterator[Index]:
        """Holds the lock; the index as it is now, to be changed and written. May be nested.

        Raises:
            StudiesError: the folder is away, or another process keeps it locked.
            OSError: it cannot be read or written to.
        """
        busy = StudiesError("Another server keeps the folder of images locked. Try again.")
        with self._mutex:
            # Before the lock, whose file would be put into a folder that is not the right one.
            self.require()
            with locked(self._lock, busy):
                self._depth += 1
                try:
                    if self._depth == 1:
                        self._recover()
                    yield self.current()
                finally:
                    self._depth -= 1
                    if not self._depth:
                        self._seen = None
                        with contextlib.suppress(OSError, IndexDamaged):
                            self._take(self._stored() or self._index)

    def current(self) -> Index:
        """The index on the disk, in line with the folder; within `changing`."""
        try:
            stored = self._stored()
        except IndexDamaged as error:
            stored = None
            kept = self._path_aside("damaged")
            (self._folder / NAME).rename(kept)
            logger.error(
                "The index of the images was damaged: %s. It is kept as '%s', and made anew from the files.",
                error,
                kept.stem,
            )
        found = self._reconciled(stored or empty_index())
        if found.dropped and self._is_opening:
            kept = self._path_aside("before")
            shutil.copyfile(self._folder / NAME, kept)
            logger.warning("The index named %d files that are not there. It is kept as '%s'.", found.dropped, kept.stem)
        if found.is_changed or stored is None and found.index["objects"]:
            logger.info(
                "The index of the images follows the folder: %d images and labels came, %d are gone; %d images now.",
                found.added,
                found.dropped,
                len(found.index["objects"]),
            )
            self.write(found.index)
        return found.index

    def write(self, index: Index) -> None:
        """Replaces the index on the disk; within `changing`.

        Raises:
            OSError: it stays as it was.
        """
        for tag in _TAGS:
            (self.labels / tag).mkdir(parents=True, exist_ok=True)
        write_index(self._folder / NAME, index)

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
        if (damaged or found.is_changed or self.files.pending()) and self._may_write:
            try:
                with self.changing():
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
        for number in self.files.pending():
            try:
                change = self._finish(number)
            except _CANNOT_BE_DONE:
                logger.exception("A change of a label that was interrupted cannot be carried out; it is set aside.")
                self.files.give_up(number)
            else:
                logger.warning("A change of a label that was interrupted is carried out: %s.", change.action)
        self.files.remove_unfinished()

    def _stored(self) -> Index | None:
        return read_index(self._folder / NAME)

    def _reconciled(self, index: Index) -> Reconciled:
        self._take(index | {"objects": self._index["objects"]})
        listing = list_folder(self.images, self.labels, self._endings)
        notes = self.image_notes.read() if listing.images.keys() - index["objects"].keys() else {}

        def found_image(image: str, ending: str) -> Entry:
            return entry_of_note(notes.get(image), self.images / f"{image}{ending}", ending)

        return reconcile(index, listing, found_image, self._found_label)

    def _found_label(self, image: str, tag: str, endings: Sequence[str]) -> Entry:
        with contextlib.suppress(OSError):
            if note := self.files.matching_note(image, tag, tuple(endings)):
                return {"ext": note["file"].removeprefix(image), "info": note["info"]}
        return found_entry(self.labels / tag / f"{image}{endings[0]}", endings[0])

    def _take(self, index: Index) -> None:
        self._index = index
        self.files = LabelFiles(self._folder, self.labels)
        if index["objects"]:
            self._presence.remember()

    def _path_aside(self, why: str) -> Path:
        return self._folder / f"{Path(NAME).stem}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"

    def _signature(self) -> tuple[tuple[Any, ...], int]:
        """What differs after any change of the folder, and the newest time in it, ns since 1970."""
        labels = self.labels
        paths = [self._folder, self._folder / NAME, self.images, labels, self._folder / HISTORY / ".pending"]
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

    def _keep_names(self, index: Index) -> None:
        """Notes for labels and images that have none, and names from the notes for labels that lost theirs."""
        found = 0
        for image, case in index["objects"].items():
            for tag, entry in case["labels"].items():
                if is_described(entry):
                    self.files.keep_note(image, tag, entry)
                elif (note := self.files.matching_note(image, tag, (entry["ext"],))) and note["info"] != entry["info"]:
                    entry["info"], found = note["info"], found + 1
        if found:
            logger.warning("Names of %d labels that the index had lost are back.", found)
            self.write(index)
        images, kept = {name: case["image"] for name, case in index["objects"].items()}, self.image_notes.read()
        lacking = {name: entry for name, entry in images.items() if is_described(entry) and name not in kept}
        if lacking:
            self.image_notes.keep({name: self.images / f"{name}{images[name]['ext']}" for name in lacking}, lacking)
