"""The clicks that people made on the way to a mask they accepted: sequences to train with, and what a mask costs."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from lib.annotations.recorded_interactions import RecordedDialogue, dialogues
from lib.annotations.submitted import SubmittedCase, SubmittedError
from lib.audit.log import AuditError, AuditLog
from lib.prompts.click import Click
from lib.volumes.mask_hash import mask_hash
from lib.volumes.memory import MemoryShortage
from lib.volumes.volume import ImageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RealDialogue:
    """A dialogue that led to one object of a submitted label.

    Attributes:
        label: number of the object in the case, as in `Volume.labels`.
        clicks: in the order in which they were set.
        seconds: from the first answer until the label was saved, pauses cut.
        model_version: that gave the last mask.
        is_exact: the accepted object is that mask, voxel by voxel; otherwise it was corrected by hand, or the clicks
            just agree with it.
        is_accepted: the one that counts for its object: an exact one, or the last before the label was saved.
    """

    label: int
    clicks: tuple[Click, ...]
    seconds: float
    model_version: str
    is_exact: bool
    is_accepted: bool


@dataclass(frozen=True)
class ClickCosts:
    """What an accepted mask cost.

    Attributes:
        count: of masks.
        exact: of them accepted without a change by hand.
        median_clicks: to acceptance.
        median_seconds: from the first answer to acceptance, pauses cut.
    """

    count: int
    exact: int
    median_clicks: float
    median_seconds: float


def read_real_clicks(
    log: AuditLog, cases: Iterable[SubmittedCase], preset_name: str
) -> dict[str, tuple[RealDialogue, ...]]:
    """The dialogues behind submitted labels.

    A dialogue belongs to an object if it took place before the label was saved, all its foreground clicks lie in the
    object and none of its background clicks does; or if its mask is the object, voxel by voxel.

    Args:
        log: where the server writes down its answers.
        cases: of one preset.
        preset_name: whose answers count.

    Returns:
        By image id; images without a dialogue are left out. Empty where the log tells nothing of images.
    """
    found: dict[str, tuple[RealDialogue, ...]] = {}
    by_image = _records_by_image(log, preset_name)
    if not by_image:
        return found
    for case in cases:
        records = by_image.get(log.name_hash(case.image_id))
        if records and (real := _of_case(case, dialogues(records, case.shape))):
            found[case.image_id] = real
    return found


def costs(real: Mapping[str, Sequence[RealDialogue]]) -> dict[str, ClickCosts]:
    """By model version, what its accepted masks cost; the accepted dialogue of each object counts once."""
    by_version: dict[str, list[RealDialogue]] = defaultdict(list)
    for dialogue in (dialogue for each in real.values() for dialogue in each):
        if dialogue.is_accepted:
            by_version[dialogue.model_version].append(dialogue)
    return {
        version: ClickCosts(
            count=len(accepted),
            exact=sum(dialogue.is_exact for dialogue in accepted),
            median_clicks=float(median(len(dialogue.clicks) for dialogue in accepted)),
            median_seconds=float(median(dialogue.seconds for dialogue in accepted)),
        )
        for version, accepted in sorted(by_version.items())
    }


def presets_used(log: AuditLog, image_ids: Iterable[str]) -> dict[str, frozenset[str]]:
    """Image id -> names of the presets that answered clicks on it; images nobody clicked on are left out."""
    used: dict[str, set[str]] = defaultdict(set)
    if not _is_comparable(log):
        return {}
    for record in log.records():
        if isinstance(record.get("image_id_hash"), str):
            used[record["image_id_hash"]].add(str(record.get("preset")))
    hashes = {image_id: log.name_hash(image_id) for image_id in image_ids}
    return {image_id: frozenset(used[hashed]) for image_id, hashed in hashes.items() if hashed in used}


def _of_case(case: SubmittedCase, recorded: Sequence[RecordedDialogue]) -> tuple[RealDialogue, ...]:
    before = [each.until_time(case.saved_at) for each in recorded if each.steps[0].time <= case.saved_at]
    if not before:
        return ()
    try:
        labels = case.read_labels()
    except (SubmittedError, ImageError, OSError, MemoryShortage) as error:
        logger.warning("The clicks on %s are not used: %s", case.image_id, error)
        return ()
    real = []
    for label in range(1, len(case.names) + 1):
        own = _of_object(labels == label, before)
        # The last exact one; where there is none, the last.
        accepted = max(own, key=lambda match: (match[1], match[0].last.time), default=None)
        real += [
            RealDialogue(
                label=label,
                clicks=dialogue.last.clicks,
                seconds=dialogue.seconds(case.saved_at),
                model_version=dialogue.last.model_version,
                is_exact=is_exact,
                is_accepted=(dialogue, is_exact) == accepted,
            )
            for dialogue, is_exact in own
        ]
    return tuple(real)


def _of_object(mask: np.ndarray, recorded: Sequence[RecordedDialogue]) -> list[tuple[RecordedDialogue, bool]]:
    """The dialogues that fit an object, each with whether its last mask is the object itself."""
    exact_hash = mask_hash(mask)
    found = []
    for dialogue in recorded:
        exact = [number for number, step in enumerate(dialogue.steps) if step.mask_hash == exact_hash]
        if exact:
            # What came after was taken back: the user kept this mask.
            found.append((dialogue.until(exact[-1]), True))
        elif all(bool(mask[click.ijk]) == click.is_foreground for click in dialogue.last.clicks):
            found.append((dialogue, False))
    return found


def _records_by_image(log: AuditLog, preset_name: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in log.records(containing=preset_name) if _is_comparable(log) else ():
        if record.get("preset") == preset_name and isinstance(record.get("image_id_hash"), str):
            found[record["image_id_hash"]].append(record)
    return found


def _is_comparable(log: AuditLog) -> bool:
    """Whether images can be found in the log: without its key their names mean nothing."""
    if not log.has_key():
        return False
    try:
        log.name_hash("")
    except (AuditError, OSError) as error:
        logger.warning("The recorded clicks are not used: %s", error)
        return False
    return True
