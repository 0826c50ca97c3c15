"""The training data of a fine-tuning round: submitted labels, split by patient."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib.annotations.patients import PatientBook
from lib.annotations.real_clicks import costs, read_real_clicks
from lib.annotations.splits import VALIDATION, Splits
from lib.annotations.submitted import Learner, SavedLabel, SubmittedCase, read_submitted
from lib.audit.log import AuditLog


class NothingToLearn(RuntimeError):
    """There is nothing to train on, and why."""


@dataclass(frozen=True)
class TrainingData:
    """What a round trains on and measures on.

    Attributes:
        train: cases to train on.
        validation: cases to measure on, of other patients.
        pseudonym: a name -> its keyed hash, which stands for it in all files that are kept.
        skipped: labels that were left out, one sentence each.
        notes: what was decided about labels that are learned from, one sentence each.
        reasons: why labels were left out, and how many by each reason; they name no image.
        recorded: by image id, recorded interactions of users; see `SubmittedDataSet`.
        real: by model version, what accepted masks cost their users; for the versions page.
        rejected: sha256 of labels that were rejected; a version that learned from one is not trained further.
    """

    train: Sequence[SubmittedCase]
    validation: Sequence[SubmittedCase]
    pseudonym: Callable[[str], str]
    skipped: Sequence[str] = ()
    notes: Sequence[str] = ()
    reasons: Mapping[str, int] = dataclasses.field(default_factory=dict)
    recorded: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    real: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rejected: frozenset[str] = frozenset()

    def hashes(self) -> tuple[str, ...]:
        """sha256 of the images and labels to train on, each pair in one text."""
        return tuple(sorted(f"{case.image_sha256}:{case.label_sha256}" for case in self.train))

    def why_nothing(self, preset: str) -> str:
        """Why there is nothing to train on, in words for the user."""
        lines = [f"There is no submitted label that preset '{preset}' can be trained on."]
        if self.validation:
            lines.append(f"{len(self.validation)} case(s) are of validation patients, who are never trained on.")
        return " ".join([*lines, *self.skipped[:5]])


def collect_training_data(
    saved: Iterable[SavedLabel],
    learner: Learner,
    book: PatientBook,
    learning_dir: Path,
    audit_log: AuditLog,
    rejected: frozenset[str] = frozenset(),
) -> TrainingData:
    """Reads submitted labels, splits them by patient and adds the recorded interactions.

    Args:
        saved: final labels of the data store.
        learner: the preset that is to be trained.
        book: names the patient of each image.
        learning_dir: folder of the split.
        audit_log: has the recorded interactions.
        rejected: see `TrainingData`.

    Raises:
        PatientsError: statements about patients contradict one another.
        SplitsError: the split is damaged.
    """
    found = read_submitted(saved, learner, book.patient_of)
    book.report()
    splits = Splits(learning_dir)
    sides = splits.assign({case.image_id: case.patient for case in found.cases})
    real = read_real_clicks(audit_log, found.cases, learner.preset.name)
    return TrainingData(
        train=[case for case in found.cases if sides[case.image_id] != VALIDATION],
        validation=[case for case in found.cases if sides[case.image_id] == VALIDATION],
        pseudonym=splits.pseudonyms(),
        skipped=[skipped.sentence for skipped in found.skipped],
        notes=found.notes,
        reasons=Counter(skipped.reason for skipped in found.skipped),
        recorded=real,
        real={version: asdict(cost) for version, cost in costs(real).items()},
        rejected=rejected,
    )
