"""What is written down of changes of labels, and of labels that leave the server."""

from collections.abc import Mapping, Sequence
from typing import Any

from lib.studies.label_changes import By, LabelChange
from lib.workflow.proposals import outcome_of


def make_label_record(change: LabelChange, record_id: str, image_id_hash: str) -> dict[str, Any]:
    """A record: who did what to which label, and when; hashes of the label's file before and after.

    Names that viewers give segments are left out, for users write what they like there. Where the server had proposed a
    mask, it says what became of that.

    Args:
        change: of the label.
        record_id: from ``lib.audit.log.new_id``.
        image_id_hash: of the image's id, from ``AuditLog.name_hash``.
    """
    outcome = outcome_of(change.new["info"]) if change.new else None
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
        **({"proposal": outcome} if outcome else {}),
    }


def make_export_record(
    record_id: str, at: str, by: By, labels: Sequence[tuple[str, str]], archive_sha256: str | None
) -> dict[str, Any]:
    """A record of labels that left the server.

    Args:
        record_id: from ``lib.audit.log.new_id``.
        at: ISO 8601, UTC.
        by: who got them.
        labels: hash of the image's id, from ``AuditLog.name_hash``, and sha256 of the label's file.
        archive_sha256: of the archive they are in; None for one label alone.
    """
    return {
        "id": record_id,
        "time": at,
        "user": by.user,
        "address": by.address,
        "label": "export",
        "archive_sha256": archive_sha256,
        "labels": [{"image_id_hash": image, "sha256": sha256} for image, sha256 in labels],
    }


def _sha256(note: Mapping[str, Any] | None) -> str | None:
    return note["sha256"] if note else None
