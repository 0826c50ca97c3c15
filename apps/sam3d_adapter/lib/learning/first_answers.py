"""Dice of the first answer on each case that Next Sample gave, against the label that was submitted later.

The audit log keeps the request of the answer; its mask is computed again, once for each label.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.annotations.real_clicks import RealInteraction
from lib.annotations.submitted import SubmittedCase, SubmittedError
from lib.audit.log import AuditError, AuditLog
from lib.audit.replay import ReplayError, replay
from lib.evaluation.metrics import dice
from lib.learning.arms import strategies_with_random_arm
from lib.volumes.memory import MemoryShortage
from lib.volumes.volume import ImageError
from lib.workflow.database import Database
from lib.workflow.first_dice import FirstDice, keep_first_dice, read_first_dice
from lib.workflow.served import read_served

logger = logging.getLogger(__name__)

MOST_LABELS = 200
"""In one training, which waits for them; the others follow with the next ones."""


@dataclass(frozen=True)
class FirstAnswers:
    """Computes first answers again.

    Attributes:
        log: has the records.
        app_dir: the app folder.
        learning_dir: folder of the versions.
        preset: name; its answers count.
        pseudonym: a name -> its keyed hash.
    """

    log: AuditLog
    app_dir: Path
    learning_dir: Path
    preset: str
    pseudonym: Callable[[str], str]

    def measure(
        self, cases: Sequence[SubmittedCase], recorded: Mapping[str, Sequence[RealInteraction]], database: Database
    ) -> None:
        """Keeps the Dice of cases that were given by a strategy with a random arm, or by that arm.

        A label is measured once. Where no answer of one click is known, or it cannot be computed again, that is kept.

        Args:
            cases: with submitted labels.
            recorded: by image id, see `lib.annotations.real_clicks.read_real_clicks`.
            database: of the workflow.

        Raises:
            WorkflowError: the database cannot be used.
        """
        with database.reading() as connection:
            served = read_served(connection)
            known = read_first_dice(connection, self.preset)
        compared = strategies_with_random_arm(served)
        images = {one.image for one in served if one.strategy in compared}
        threads = torch.get_num_threads()
        given = [case for case in cases if case.image_id in images]
        new = [case for case in given if getattr(known.get(case.image_id), "label", None) != case.label_sha256]
        for case in new[:MOST_LABELS]:
            try:
                found = self._of(case, recorded.get(case.image_id, ()))
            finally:
                torch.set_num_threads(threads)  # a replay takes as many as the record says
            with database.changing() as connection:
                keep_first_dice(connection, found)

    def _of(self, case: SubmittedCase, recorded: Sequence[RealInteraction]) -> FirstDice:
        by_object: dict[int, float] = {}
        version = ""
        for number, record in self._first_records(recorded).items():
            try:
                mask = replay(record, case.image, self.app_dir, learning_dir=self.learning_dir).mask
                by_object[number] = dice(mask > 0, case.mask(case.read_labels(), number))
                version = record["model_version"]
            except (ReplayError, SubmittedError, ImageError, OSError, MemoryShortage) as error:
                logger.info("A first answer cannot be computed again: %s", error)
        return FirstDice(
            image=case.image_id,
            preset=self.preset,
            label=case.label_sha256,
            patient=self.pseudonym(case.patient.name),
            version=version,
            dice=float(np.mean(list(by_object.values()))) if by_object else None,
            at=case.saved_at,
        )

    def _first_records(self, recorded: Sequence[RealInteraction]) -> dict[int, dict[str, Any]]:
        """By object, the record of the first answer on it, if it was to one click and nothing else."""
        found: dict[int, dict[str, Any]] = {}
        for label in {one.label for one in recorded}:
            # Interactions come in the order of their first answer.
            first = next(one for one in recorded if one.label == label)
            try:
                record = self.log.find(first.first_record)
            except AuditError:
                continue
            request = record["request"]
            is_one_click = len(request.get("foreground") or ()) == 1 and not request.get("background")
            if is_one_click and not request.get("box") and not record.get("label_maps", {}).get("start_mask"):
                found[label] = record
        return found
