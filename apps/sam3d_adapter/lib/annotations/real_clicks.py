"""Real clicks: the recorded interactions behind accepted masks, to train with, and what a mask costs."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from lib.annotations.made_with import Answer, read_answer
from lib.annotations.recorded_interactions import RecordedInteraction, interactions
from lib.annotations.submitted import SubmittedCase, SubmittedError
from lib.audit.log import AuditError, AuditLog
from lib.prompts.click import Click
from lib.volumes.mask_hash import mask_hash
from lib.volumes.memory import MemoryShortage
from lib.volumes.volume import ImageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RealInteraction:
    """An interaction that led to one object of a submitted label.

    Attributes:
        label: number of the object in the case, as in `Volume.labels`.
        clicks: in the order they were set.
        seconds: from the first answer until the label was saved, without long pauses.
        model_version: of the last mask.
        first_record: id, in the audit log, of the first answer.
        is_exact: whether the object equals that mask voxel by voxel; otherwise it was corrected by hand, or the clicks
            only agree with it.
        is_accepted: whether it counts for its object: the last exact one, or else the last before the label was saved.
    """

    label: int
    clicks: tuple[Click, ...]
    seconds: float
    model_version: str
    first_record: str
    is_exact: bool
    is_accepted: bool


@dataclass(frozen=True)
class ClickCosts:
    """What accepted masks cost.

    Attributes:
        count: number of masks.
        exact: number of masks accepted without a change by hand.
        median_clicks: to acceptance.
        median_seconds: from the first answer to acceptance, without long pauses.
    """

    count: int
    exact: int
    median_clicks: float
    median_seconds: float


def read_real_clicks(
    log: AuditLog, cases: Iterable[SubmittedCase], preset_name: str
) -> dict[str, tuple[RealInteraction, ...]]:
    """The interactions behind submitted labels.

    An interaction before the label was saved belongs to an object if its mask equals the object, or if all its
    foreground clicks and none of its background clicks lie in the object.

    Args:
        log: of the server's answers.
        cases: of one preset.
        preset_name: only its answers count.

    Returns:
        By image id; images without an interaction are left out. Empty where the log cannot be matched with images.
    """
    found: dict[str, tuple[RealInteraction, ...]] = {}
    by_image = _records_by_image(log, preset_name)
    if not by_image:
        return found
    for case in cases:
        records = by_image.get(log.name_hash(case.image_id))
        if records and (real := _of_case(case, interactions(records, case.shape))):
            found[case.image_id] = real
    return found


def costs(real: Mapping[str, Sequence[RealInteraction]]) -> dict[str, ClickCosts]:
    """Costs of accepted masks by model version; each object counts once."""
    by_version: dict[str, list[RealInteraction]] = defaultdict(list)
    for interaction in (interaction for each in real.values() for interaction in each):
        if interaction.is_accepted:
            by_version[interaction.model_version].append(interaction)
    return {
        version: ClickCosts(
            count=len(accepted),
            exact=sum(interaction.is_exact for interaction in accepted),
            median_clicks=float(median(len(interaction.clicks) for interaction in accepted)),
            median_seconds=float(median(interaction.seconds for interaction in accepted)),
        )
        for version, accepted in sorted(by_version.items())
    }


def answers_on(log: AuditLog, image_ids: Iterable[str]) -> dict[str, tuple[Answer, ...]]:
    """Image id -> the answers to clicks on it, in the order of the log; images without clicks are left out."""
    found: dict[str, list[Answer]] = defaultdict(list)
    if not _is_comparable(log):
        return {}
    for record in log.records(containing='"preset"'):
        if isinstance(record.get("image_id_hash"), str) and "preset" in record:
            found[record["image_id_hash"]].append(read_answer(record))
    hashes = {image_id: log.name_hash(image_id) for image_id in image_ids}
    return {image_id: tuple(found[hashed]) for image_id, hashed in hashes.items() if hashed in found}


def _of_case(case: SubmittedCase, recorded: Sequence[RecordedInteraction]) -> tuple[RealInteraction, ...]:
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
        own = _of_object(case.mask(labels, label), before)
        # The last exact one, or else the last.
        accepted = max(own, key=lambda match: (match[1], match[0].last.time), default=None)
        real += [
            RealInteraction(
                label=label,
                clicks=interaction.last.clicks,
                seconds=interaction.seconds(case.saved_at),
                model_version=interaction.last.model_version,
                first_record=interaction.steps[0].record_id,
                is_exact=is_exact,
                is_accepted=(interaction, is_exact) == accepted,
            )
            for interaction, is_exact in own
        ]
    return tuple(real)


def _of_object(mask: np.ndarray, recorded: Sequence[RecordedInteraction]) -> list[tuple[RecordedInteraction, bool]]:
    """The interactions that fit an object, each with whether its last mask equals the object."""
    exact_hash = mask_hash(mask)
    found = []
    for interaction in recorded:
        exact = [number for number, step in enumerate(interaction.steps) if step.mask_hash == exact_hash]
        if exact:
            # Later answers were undone: the user kept this mask.
            found.append((interaction.until(exact[-1]), True))
        elif all(bool(mask[click.ijk]) == click.is_foreground for click in interaction.last.clicks):
            found.append((interaction, False))
    return found


def _records_by_image(log: AuditLog, preset_name: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in log.records(containing=preset_name) if _is_comparable(log) else ():
        if record.get("preset") == preset_name and isinstance(record.get("image_id_hash"), str):
            found[record["image_id_hash"]].append(record)
    return found


def _is_comparable(log: AuditLog) -> bool:
    """Whether images can be found in the log; this needs the key of the name hashes."""
    if not log.has_key():
        return False
    try:
        log.name_hash("")
    except (AuditError, OSError) as error:
        logger.warning("The recorded clicks are not used: %s", error)
        return False
    return True
