"""Changes of labels of a PACS, told to whoever writes them down; the history of the files themselves is the PACS's."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monailabel.datastore.local import LocalDatastore

from lib.files.checksums import file_sha256
from lib.host.requester import current_address, current_user
from lib.host.studies_datastore import tag_text
from lib.studies.label_changes import LabelChange, new_change_id


def with_recorded_labels(datastore: Any, *told: Callable[[LabelChange], None]) -> Any:
    """The data store of a PACS; what is saved, described and removed is told.

    Args:
        datastore: its methods that change labels are replaced.
        told: each is called after each change.
    """
    save_label, remove_label = datastore.save_label, datastore.remove_label
    update_label_info = datastore.update_label_info

    def save(image: str, file: str, tag: str, info: dict[str, Any], *more: Any) -> str:
        before = _note(datastore, image, tag)
        label = save_label(image, file, tag, info, *more)
        _tell("overwrite" if before else "submit", image, tag, before)
        return str(label)

    def remove(image: str, tag: str) -> None:
        before = _note(datastore, image, tag)
        remove_label(image, tag)
        _tell("delete", image, tag, before)

    def describe(image: str, tag: str, info: dict[str, Any]) -> None:
        before = _note(datastore, image, tag)
        update_label_info(image, tag, info)
        _tell("describe", image, tag, before)

    def _tell(action: str, image: str, tag: str, before: dict[str, Any] | None) -> None:
        now, after = datetime.now(UTC), None if action == "delete" else _note(datastore, image, tag)
        at, who = now.isoformat(timespec="milliseconds"), (current_user(), current_address())
        change = LabelChange(new_change_id(now), action, image, tag_text(tag), at, *who, after, before)
        for tell in told:
            tell(change)

    datastore.save_label, datastore.remove_label = save, remove
    datastore.update_label_info = describe
    return datastore


def _note(datastore: Any, image: str, tag: str) -> dict[str, Any] | None:
    # Its own methods take the id of a final label for the UID of a series of the PACS.
    path = Path(LocalDatastore.get_label_uri(datastore, image, tag) or "/")
    if not path.is_file():
        return None
    return {"sha256": file_sha256(path), "info": dict(LocalDatastore.get_label_info(datastore, image, tag))}
