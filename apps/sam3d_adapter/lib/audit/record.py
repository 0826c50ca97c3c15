"""What is written down of an answer."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lib.audit.log import new_id
from lib.audit.machine import processor, software
from lib.presets import Preset

LABEL_MAPS = ("start_mask", "protected")
"""Entries of an answer, and of its record, about masks that were made elsewhere: source, value, hash, voxels."""


def make_record(
    preset: Preset,
    request: Mapping[str, Any],
    answer: Mapping[str, Any],
    *,
    user: str | None,
    image_id_hash: str | None,
) -> dict[str, Any]:
    """A record: who asked when for what, and all that is needed to compute the mask again.

    Nothing in it names a patient: no path, no UID, no id of an image, none of the keys that a client made up.

    Args:
        preset: of the task.
        request: as `lib.requests.request.Request.to_json` gives it.
        answer: the JSON part of the answer.
        user: as the host knows him; None where it does not.
        image_id_hash: of the image's id, from ``AuditLog.name_hash``; None for an image that has none here.
    """
    now = datetime.now(UTC)
    return {
        "id": new_id(now),
        "time": now.isoformat(timespec="milliseconds"),
        "user": user,
        "image_id_hash": image_id_hash,
        "image_hash": answer["image_hash"],
        "preset": preset.name,
        "preset_hash": preset.sha256(),
        "model_version": answer["model_version"],
        "version": answer["version"],
        "precision": answer["precision"],
        "device": answer["device"],
        "processor": processor(str(answer["device"])),
        "request": dict(request),
        "label_maps": {key: answer[key] for key in LABEL_MAPS if answer.get(key) is not None},
        "mask_hash": answer["mask_hash"],
        "mask_voxels": answer["mask_voxels"],
        "latency_ms": answer["latency_ms"],
        "software": software(),
    }
