"""A folder of images and its labels: every change of them is done here, and done as a whole."""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.files.atomic_write import sync_folder
from lib.files.checksums import copy_with_sha256, file_sha256
from lib.studies.entries import Entry, new_entry, storable
from lib.studies.index import Index, index_bytes, is_plain_name
from lib.studies.label_changes import PARTIAL, By, LabelChange
from lib.studies.presence import StudiesError
from lib.studies.shared_index import SharedIndex

logger = logging.getLogger(__name__)

ENDINGS = (".nii.gz", ".nii", ".nrrd")
"""Of files that are served unless told otherwise."""


class Unknown(LookupError):
    """There is no such image, label or entry of the history; the text says which."""


class Taken(FileExistsError):
    """There is another image of that id."""


class StudiesFolder:
    """A folder of images.

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
        self._told = told or (lambda change: None)
        self._index = SharedIndex(folder, endings, self._carry_out_late, is_watched=is_watched, may_write=may_write)
        self.open, self.index, self.refresh = self._index.open, self._index.now, self._index.refresh
        self.away, self.problem, self.require = self._index.away, self._index.problem, self._index.require

    @property
    def images(self) -> Path:
        """Where the images lie."""
        return self._index.images

    @property
    def labels(self) -> Path:
        """Where the labels lie, in a folder for each tag."""
        return self._index.labels

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
        target = self._index.images / f"{image}{ending}"
        partial = self._index.images / f".{secrets.token_hex(8)}{PARTIAL}"
        try:
            sha256, _ = copy_with_sha256(source, partial)
            with self._index.changing() as index:
                if target.exists():
                    if file_sha256(target) != sha256:
                        raise Taken(f"There is another image {image!r}.")
                    return
                entry = new_entry(ending, info, target.name)
                self._index.image_notes.keep({image: partial}, {image: entry})
                index["objects"][image] = {"image": entry, "labels": {}}
                # First the index: what it names and is not there is taken out of it, and nothing is lost by that.
                self._index.write(index)
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
        with self._index.changing() as index:
            case = self._case(index, image)
            for tag in case["labels"]:
                self.delete_label(image, tag, by)
            self._image_path(image, case).unlink(missing_ok=True)
            sync_folder(self._index.images)
            self._index.current()
            self._index.image_notes.forget(image)

    def describe_image(self, image: str, info: Mapping[str, Any]) -> None:
        """Adds to what is kept of an image.

        Raises:
            Unknown: no such image.
            OSError: nothing was changed.
        """
        with self._index.changing() as index:
            case = self._case(index, image)
            case["image"]["info"] |= storable(info)
            self._index.image_notes.keep({image: self._image_path(image, case)}, {image: case["image"]})
            self._index.write(index)

    def describe(self, **texts: str) -> None:
        """Sets ``name`` or ``description`` of the folder."""
        with self._index.changing() as index:
            self._index.write(index | texts)

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

    def describe_label(
        self, image: str, tag: str, info: Mapping[str, Any], by: By, *, sha256: str | None = None
    ) -> LabelChange:
        """Adds to what is kept of a label; what was there before stays in the history.

        Args:
            image: id.
            tag: of the label.
            info: what is added.
            by: who asks for it.
            sha256: of the label that is meant; None for whichever is there.

        Raises:
            Unknown: no such label, or another one.
            OSError: nothing was changed, or the change is carried out later.
        """
        with self._index.changing() as index:
            old = self._label(index, image, tag)
            if sha256 not in (None, file_sha256(self.labels / tag / f"{image}{old['ext']}")):
                raise Unknown(f"The label of image {image!r} with tag {tag!r} is another one by now.")
            new = {"ext": old["ext"], "info": old["info"] | storable(info)}
            return self._change("describe", index, image, tag, by, old=old, new=new)

    def delete_label(self, image: str, tag: str, by: By) -> LabelChange:
        """Removes a label; it is kept in the history.

        Raises:
            Unknown: no such label.
            OSError: nothing was changed, or the change is carried out later.
        """
        with self._index.changing() as index:
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
        with self._index.changing():
            found = [each for each in self._index.files.changes(image, tag) if change in (None, each.id)]
            former = [(each.old, path) for each in found if (path := self._index.files.former(each)) and each.old]
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
        return self._index.files.changes(image, tag)

    def former(self, change: LabelChange) -> Path | None:
        """File of the label that a change replaced or deleted; None where there is none."""
        return self._index.files.former(change)

    def note(self, image: str, tag: str) -> dict[str, Any] | None:
        """What is kept beside a label."""
        return self._index.files.note(image, tag)

    def _save(
        self, action: str, image: str, tag: str, ending: str, source: Path, info: Mapping[str, Any], by: By
    ) -> LabelChange:
        self._require_listed(tag, ending)
        with self._index.changing() as index:
            old = self._case(index, image)["labels"].get(tag)
            new = (
                {"ext": ending, "info": dict(info)} if action == "restore" else new_entry(ending, info, image + ending)
            )
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
        number = self._index.files.prepare(action, image, tag, by, old=old, source=source, new=new, index=content)
        return self._carry_out(number)

    def _carry_out_late(self, number: str) -> LabelChange:
        return self._carry_out(number, is_late=True)

    def _carry_out(self, number: str, *, is_late: bool = False) -> LabelChange:
        change = self._index.files.finish(number, is_late=is_late)
        try:
            self._told(change)
        # Broad: whoever listens, the label is saved.
        except Exception:
            logger.exception("A change of a label was not passed on.")
        self._index.files.close(change)
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
        return self._index.images / f"{image}{case['image']['ext']}"
