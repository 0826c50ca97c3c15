"""Changes of labels: each done as a whole, and what was there before kept.

A change is prepared in a folder of its own: the label of before with its names, the new label with its names, the new
index. That folder is then renamed into ``.pending``; from this moment on the change counts, and is carried out by
renaming alone, by whoever comes next if the process is killed. At its end the folder becomes the entry of the history.

::

    labels/final/case_1.nii.gz           the label
    labels/final/case_1.json             its names, when and by whom it was saved, its sha256 ("note" below)
    label_history/final/case_1/<id>/     one folder for each change
        change.json                      what was done, when and by whom
        case_1.nii.gz, case_1.json       label and note of before
"""

import contextlib
import errno
import json
import logging
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.files.atomic_write import replacing, sync_folder, write_synced
from lib.files.checksums import copy_with_sha256, file_sha256
from lib.files.folders import remove_folder, remove_leftovers
from lib.studies.index import NAME, is_plain_name

logger = logging.getLogger(__name__)

HISTORY = "label_history"
"""The folder of former labels; it lies beside the images."""
MACHINE_TAG, MACHINE_KEPT = "original", 10
"""Masks that the server saved itself may come with every click; of each image so many former ones are kept."""

PARTIAL = ".partial"
"""End of the names of files that are being written."""

_PENDING, _NEW = ".pending", ".new-"
_FORSAKEN_S = 3600.0
_CHANGE = "change.json"


@dataclass(frozen=True)
class By:
    """Who asks for a change, as far as known.

    Attributes:
        user: name, where somebody logged in or gave it.
        address: of the client.
    """

    user: str | None = None
    address: str = ""


@dataclass(frozen=True)
class LabelChange:
    """One change of one label.

    Attributes:
        id: its place in the history; sorts by time.
        action: submit, overwrite, describe (new names alone), delete or restore.
        image: id.
        tag: of the label.
        at: ISO 8601, UTC.
        user: as in `By`.
        address: as in `By`.
        new: note of the label that came, None where none did.
        old: note of the label of before, None where there was none.
    """

    id: str
    action: str
    image: str
    tag: str
    at: str
    user: str | None
    address: str
    new: dict[str, Any] | None
    old: dict[str, Any] | None


def new_change_id(now: datetime) -> str:
    """An id that sorts by time; by chance no other process gives the same.

    Args:
        now: UTC.
    """
    return f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"


class LabelFiles:
    """Labels, notes and history of a folder; whoever changes anything holds the folder's lock.

    Args:
        folder: of images.
        labels: of labels, with a folder for each tag.
    """

    def __init__(self, folder: Path, labels: Path) -> None:
        self.folder, self.labels, self.history = folder, labels, folder / HISTORY

    def note(self, image: str, tag: str) -> dict[str, Any] | None:
        """What is kept beside a label; None where it is missing or damaged."""
        return _read(self._note_path(image, tag))

    def matching_note(self, image: str, tag: str, endings: tuple[str, ...]) -> dict[str, Any] | None:
        """The note that lies beside a label, if it is about this very file.

        Args:
            image: id.
            tag: of the label.
            endings: of the files of this id.
        """
        note = self.note(image, tag)
        if note is None or note["file"] not in [image + ending for ending in endings]:
            return None
        return note if file_sha256(self.labels / tag / note["file"]) == note["sha256"] else None

    def keep_note(self, image: str, tag: str, entry: Mapping[str, Any]) -> None:
        """Writes the note of a label that has none yet, such as one of an earlier release.

        Raises:
            OSError: it cannot be written.
        """
        if self.note(image, tag) is None:
            note = self._note_of(image, tag, entry)
            with replacing(self._note_path(image, tag)) as partial:
                partial.write_bytes(_bytes(note))

    def prepare(
        self,
        action: str,
        image: str,
        tag: str,
        by: By,
        *,
        old: Mapping[str, Any] | None,
        source: Path | None = None,
        new: Mapping[str, Any] | None = None,
        index: bytes,
    ) -> str:
        """Makes a change that counts from now on; `finish` carries it out.

        Args:
            action: as in `LabelChange`.
            image: id.
            tag: of the label.
            by: who asks for it.
            old: the entry of the label of before.
            source: file of the new label; None where the label stays or goes.
            new: the entry of the new label; None where it goes.
            index: the index of after the change.

        Returns:
            The id of the change.

        Raises:
            OSError: nothing was changed.
        """
        now = datetime.now(UTC)
        number = new_change_id(now)
        at = now.isoformat(timespec="milliseconds")
        # Whatever stands in the way of a folder does so before the change counts.
        for folder in (self.labels / tag, self.history / tag / image, self.history / _PENDING):
            folder.mkdir(parents=True, exist_ok=True)
        staged = self.history / f"{_NEW}{number}"
        try:
            (staged / "new").mkdir(parents=True)
            before = None
            if old is not None:
                before = self._note_of(image, tag, old)
                write_synced(staged / f"{image}.json", _bytes(before))
                if source is not None or new is None:
                    _link_or_copy(self.labels / tag / before["file"], staged / before["file"])
            after = None
            if new is not None:
                if (self.labels / tag / f"{image}{new['ext']}").is_dir():
                    raise IsADirectoryError(errno.EISDIR, "A folder lies where the label belongs")
                after = {"image": image, "tag": tag, "file": image + new["ext"], "sha256": before and before["sha256"]}
                if source is not None:
                    after["sha256"], _ = copy_with_sha256(source, staged / "new" / after["file"])
                after |= {"saved_at": at, "user": by.user, "address": by.address, "info": dict(new["info"])}
                write_synced(staged / "new" / f"{image}.json", _bytes(after))
            write_synced(staged / "new" / NAME, index)
            change = LabelChange(number, action, image, tag, at, by.user, by.address, after, before)
            write_synced(staged / _CHANGE, _bytes(asdict(change)))
            sync_folder(staged / "new")
            sync_folder(staged)
            staged.rename(self.history / _PENDING / number)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        sync_folder(self.history / _PENDING)
        return number

    def pending(self) -> list[str]:
        """Ids of changes that count and are not carried out yet, oldest first."""
        try:
            return sorted(os.listdir(self.history / _PENDING))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def finish(self, number: str, *, is_late: bool = False) -> LabelChange:
        """Carries out a change; may be called again, wherever it was interrupted.

        Args:
            number: id of the change.
            is_late: whether somebody may have put files there by hand since; they are then set aside.

        Raises:
            OSError: it is still pending.
        """
        staged = self.history / _PENDING / number
        change = LabelChange(**json.loads((staged / _CHANGE).read_bytes()))
        home = self.labels / change.tag
        home.mkdir(parents=True, exist_ok=True)  # it may have been moved since
        known = [note["sha256"] for note in (change.old, change.new) if note] if is_late else None
        after = change.new["file"] if change.new else None
        if after and (staged / "new" / after).exists():
            _set_aside(home / after, known, staged)
            _move(staged / "new" / after, home / after)
        _move(staged / "new" / f"{change.image}.json", self._note_path(change.image, change.tag))
        if change.old and change.old["file"] != after:
            _set_aside(home / change.old["file"], known, staged)
            (home / change.old["file"]).unlink(missing_ok=True)
        if change.new is None:
            self._note_path(change.image, change.tag).unlink(missing_ok=True)
        sync_folder(home)
        _move(staged / "new" / NAME, self.folder / NAME)
        sync_folder(self.folder)
        shutil.rmtree(staged / "new", ignore_errors=True)
        return change

    def close(self, change: LabelChange) -> None:
        """Puts a change that was carried out into the history."""
        home = self.history / change.tag / change.image
        home.mkdir(parents=True, exist_ok=True)
        (self.history / _PENDING / change.id).rename(home / change.id)
        sync_folder(home)
        if change.tag == MACHINE_TAG:
            entries = sorted(path for path in home.iterdir() if not path.name.startswith("."))
            for path in entries[:-MACHINE_KEPT]:
                remove_folder(path)

    def changes(self, image: str | None = None, tag: str | None = None) -> list[LabelChange]:
        """The history, oldest first.

        Args:
            image: of this image alone.
            tag: of labels with this tag alone.
        """
        return sorted(self._changes(image, tag), key=lambda change: change.id)

    def former(self, change: LabelChange) -> Path | None:
        """The label of before a change; None where there was none, or only its names changed."""
        if change.old is None:
            return None
        path = self.history / change.tag / change.image / change.id / change.old["file"]
        return path if path.is_file() else None

    def give_up(self, number: str) -> None:
        """Takes a change out of the way that cannot be read; its files are kept."""
        (self.history / _PENDING / number).rename(self.history / f".damaged-{number}")

    def remove_unfinished(self) -> None:
        """Removes what killed processes prepared and never made count."""
        remove_leftovers(self.history.glob(f"{_NEW}*"))

    def remove_temporary(self) -> None:
        """Removes files that killed processes were writing."""
        homes = [self.folder, self.history, *(self.labels / name for name in os.listdir(self.labels))]
        with contextlib.suppress(OSError):
            remove_leftovers(path for home in homes for path in home.glob(f"*{PARTIAL}") if not _is_coming(path))

    def _changes(self, image: str | None, tag: str | None) -> Iterator[LabelChange]:
        if not all(name is None or is_plain_name(name) for name in (image, tag)):
            return
        for tag_folder in _visible(self.history):
            for home in _visible(tag_folder) if tag in (None, tag_folder.name) else ():
                for path in _visible(home) if image in (None, home.name) else ():
                    try:
                        yield LabelChange(**json.loads((path / _CHANGE).read_bytes()))
                    except (OSError, ValueError, TypeError) as error:
                        if path.is_dir():
                            name = type(error).__name__
                            logger.warning("An entry of the history of labels cannot be read: %s.", name)

    def _note_path(self, image: str, tag: str) -> Path:
        return self.labels / tag / f"{image}.json"

    def _note_of(self, image: str, tag: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The note of a label that is there: the one beside it, with what the index says."""
        file = image + entry["ext"]
        sha256 = file_sha256(self.labels / tag / file)
        kept = self.note(image, tag)
        if kept is None or kept["sha256"] != sha256:
            saved = datetime.fromtimestamp((self.labels / tag / file).stat().st_mtime, UTC)
            kept = {"saved_at": saved.isoformat(timespec="milliseconds"), "user": None, "address": ""}
        return {**kept, "image": image, "tag": tag, "file": file, "sha256": sha256, "info": dict(entry["info"])}


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, without what another server is preparing; nothing if the folder has just gone."""
    try:
        return [folder / name for name in os.listdir(folder) if not name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_coming(path: Path) -> bool:
    # Images are copied without the lock, under a hidden name.
    is_image = re.fullmatch(rf"\.[0-9a-f]{{16}}\{PARTIAL}", path.name)
    return bool(is_image) and time.time() - path.stat().st_mtime < _FORSAKEN_S


def _read(path: Path) -> dict[str, Any] | None:
    kinds = {"file": str, "sha256": str, "info": dict, "saved_at": str}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        note = json.loads(path.read_bytes())
        json.dumps(note, allow_nan=False, ensure_ascii=False).encode()
        if isinstance(note, dict) and all(isinstance(note.get(key), kind) for key, kind in kinds.items()):
            return note if is_plain_name(note["file"]) else None
    return None


def _bytes(content: Any) -> bytes:
    return json.dumps(content, indent=2, default=str, allow_nan=False).encode()


def _link_or_copy(source: Path, target: Path) -> None:
    found = source.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        # Under its other name somebody may write into it.
        copy_with_sha256(source, target)
        return
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT):
            raise
        # A file system without links, or a file of another user.
        copy_with_sha256(source, target)


def _move(source: Path, target: Path) -> None:
    """Renames a file; into another file system, copies it. Does nothing where that was done before."""
    try:
        source.replace(target)
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with replacing(target) as partial:
            shutil.copyfile(source, partial)
        source.unlink()


def _set_aside(path: Path, known: list[str] | None, staged: Path) -> None:
    """Keeps a file that somebody put in the way by hand while the change was pending."""
    if known is not None and path.is_file() and file_sha256(path) not in known:
        _move(path, staged / f"found-{path.name}")
