"""What is written down of a change of a label."""

from collections.abc import Mapping
from typing import Any

from lib.studies.label_changes import LabelChange


def make_label_record(change: LabelChange, record_id: str, image_id_hash: str) -> dict[str, Any]:
    """A record: who did what to which label, and when; hashes of the label's file before and after.

    Names that viewers give segments are left out, for users write what they like there.

    Args:
        change: of the label.
        record_id: from ``lib.audit.log.new_id``.
        image_id_hash: of the image's id, from ``AuditLog.name_hash``.
    """
    return {
        "id": record_id,
        "time": change.at,
        "user": change.user,
        "address": change.address,
        "label": change.action,
        "change": change.id,
        "image_id_hash": image_id_hash,
        "tag": change.tag,
        "sha256": _sha256(change.new),
        "sha256_before": _sha256(change.old),
    }


def _sha256(note: Mapping[str, Any] | None) -> str | None:
    return note["sha256"] if note else None
