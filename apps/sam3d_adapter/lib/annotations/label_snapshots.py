"""Snapshots of labels from a PACS, whose originals may be deleted there, with what is known of them."""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from lib.annotations.submitted import SavedLabel
from lib.files.atomic_write import replacing
from lib.files.checksums import file_sha256

logger = logging.getLogger(__name__)


class LabelSnapshots:
    """A folder with the newest label of each image.

    Files are only removed by hand, for example when a patient withdraws consent.

    Args:
        folder: made with the first snapshot.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def saved_at(self, image_id: str) -> float:
        """When the label of an image was made, seconds since 1970; 0 without a snapshot."""
        kept = self._read(self._note(image_id))
        return float(kept["saved_at"]) if kept else 0.0

    def keep(self, label: SavedLabel, saved_at: float) -> None:
        """Copies a label, unless there is a newer one of its image.

        Args:
            label: its info must be JSON.
            saved_at: when it was made, seconds since 1970.

        Raises:
            OSError: it cannot be copied.
        """
        note = self._note(label.image_id)
        if saved_at <= self.saved_at(label.image_id):
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The name has the content's hash, so that a note never describes another file.
        digest = file_sha256(label.label)[:16]
        copy = self.folder / f"{note.stem}-{digest}{''.join(label.label.suffixes[-2:])}"
        with replacing(copy) as partial:
            shutil.copyfile(label.label, partial)
        before = self._read(note)
        content = {
            "image_id": label.image_id,
            "image": str(label.image),
            "label": copy.name,
            "info": dict(label.info),
            "image_info": dict(label.image_info),
            "saved_at": saved_at,
        }
        with replacing(note) as partial:
            partial.write_text(json.dumps(content, default=str), encoding="utf-8")
        if before and before["label"] != copy.name:
            (self.folder / before["label"]).unlink(missing_ok=True)

    def labels(self) -> list[SavedLabel]:
        """All snapshots."""
        found = []
        for note in sorted(self.folder.glob("*.json")):
            if kept := self._read(note):
                info = {**kept["info"], "ts": kept["saved_at"]}
                files = Path(kept["image"]), self.folder / kept["label"]
                found.append(SavedLabel(kept["image_id"], *files, info, kept["image_info"]))
        return found

    def _note(self, image_id: str) -> Path:
        # Ids come from a PACS; as a file name, one could lead out of the folder.
        return self.folder / f"{hashlib.sha256(image_id.encode()).hexdigest()[:32]}.json"

    def _read(self, note: Path) -> dict[str, Any] | None:
        try:
            content = json.loads(note.read_text(encoding="utf-8"))
            keys = {"image_id", "image", "label", "info", "image_info", "saved_at"}
            if not isinstance(content, dict) or not keys <= content.keys():
                raise ValueError("keys are missing")
            return content
        except FileNotFoundError:
            return None
        except ValueError as error:
            logger.warning("A label snapshot is skipped, its note %s is damaged: %s", note.name, error)
            return None
