"""Answers on their way to the client: written down, and marked with the record's id; and what is done to labels."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lib.answer_warnings import answer_warning
from lib.audit.label_record import make_export_record, make_label_record
from lib.audit.log import AuditError, AuditLog, new_id
from lib.audit.record import make_record
from lib.presets import Preset
from lib.studies.label_changes import By, LabelChange

logger = logging.getLogger(__name__)

NOT_RECORDED = "This answer could not be recorded ({reason}): it cannot be replayed. Tell whoever runs the server."


class Auditor:
    """Records every answer of the app, whichever task gave it, and every change of a label.

    Args:
        log: takes the records.
        presets: of the tasks, by name.
    """

    def __init__(self, log: AuditLog, presets: Mapping[str, Preset]) -> None:
        self._log, self._presets = log, presets

    def record(self, image: str, result: dict[str, Any], user: str | None) -> dict[str, Any]:
        """Adds ``audit_id`` to the JSON part of a result: the record's id, or None with a warning beside it.

        Whatever goes wrong with the record, the mask reaches the user. What no model answered, a saved mask that is
        shown again, has no record.

        Args:
            image: as the app was asked for it: an id or a path.
            result: MONAI Label's, with the answer under ``params``; of it, ``request`` is taken away.
            user: as the host knows him; None where it does not.
        """
        answer = result["params"]
        request = answer.pop("request", {})
        if "preset" not in answer:
            return result
        try:
            preset = self._presets[answer["preset"]]
            record = make_record(preset, request, answer, user=user, image_id_hash=self._hashed(image))
            self._log.append(record)
        # Broad: there is no fault of the record for which the mask should be kept from the user.
        except Exception as error:
            logger.exception("An answer was not recorded.")
            answer["audit_id"] = None
            warning = answer_warning("not-recorded", NOT_RECORDED.format(reason=_reason(error)))
            answer["warnings"] = [*answer.get("warnings", ()), warning]
        else:
            answer["audit_id"] = record["id"]
            fields = {key: record[key] for key in ("preset", "device", "mask_voxels")}
            fields |= {"audit_id": record["id"], "ms": answer["latency_ms"].get("total")}
            logger.info("Click answered.", extra={"fields": fields})
        return result

    def record_label(self, change: LabelChange) -> None:
        """Writes a change of a label down. Whatever goes wrong with the record, the label stays as it was changed."""
        self._note(
            change.action, lambda id: make_label_record(change, id, self._log.name_hash(change.image)), change.tag
        )

    def record_export(self, labels: Sequence[tuple[str, str]], by: By, archive_sha256: str | None = None) -> None:
        """Writes down that labels left the server; they do, whatever goes wrong with the record.

        Args:
            labels: image id, and sha256 of the label's file.
            by: who got them.
            archive_sha256: of the archive they are in; None for one label alone.
        """

        def record(id: str) -> dict[str, Any]:
            hashed = [(self._log.name_hash(image), sha256) for image, sha256 in labels]
            return make_export_record(
                id, datetime.now(UTC).isoformat(timespec="milliseconds"), by, hashed, archive_sha256
            )

        self._note("export", record)

    def _note(self, action: str, make: Callable[[str], dict[str, Any]], tag: str = "") -> None:
        try:
            record_id = new_id(datetime.now(UTC))
            self._log.append(make(record_id))
        # Broad: there is no fault of the record for which a label should be lost or kept back.
        except Exception:
            logger.exception("What was done to labels was not recorded: %s.", action)
        else:
            logger.info("Labels.", extra={"fields": {"action": action, "tag": tag, "audit_id": record_id}})

    def _hashed(self, image: str) -> str | None:
        # Uploads and sessions come as paths that the server made up; they say nothing of the image.
        return None if os.sep in image else self._log.name_hash(image)


def _reason(error: Exception) -> str:
    """Why, in words that may leave the server: the text of a system error names a path."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) if isinstance(error, AuditError) else type(error).__name__
