"""What a fine-tuning round learns from."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib.annotations.submitted import SubmittedCase


class NothingToLearn(RuntimeError):
    """There is nothing to train on, and why."""


@dataclass(frozen=True)
class Material:
    """What a round learns from.

    Attributes:
        train: cases to train on.
        validation: cases to measure on, of other patients.
        pseudonym: a name -> its keyed hash, which stands for it in whatever is kept.
        skipped: labels that were left out, a sentence each.
        recorded: by image id, what users clicked there; see `SubmittedDataSet`.
        real: what accepted masks cost their users, by model version; for the version's page.
    """

    train: Sequence[SubmittedCase]
    validation: Sequence[SubmittedCase]
    pseudonym: Callable[[str], str]
    skipped: Sequence[str] = ()
    recorded: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    real: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def hashes(self) -> tuple[str, ...]:
        """sha256 of images and labels that are trained on, each pair in one text."""
        return tuple(sorted(f"{case.image_sha256}:{case.label_sha256}" for case in self.train))


def nothing_to_learn(material: Material, preset: str) -> str:
    """Why there is nothing, in words for whoever asked."""
    lines = [f"There is no submitted label that preset '{preset}' can be trained on."]
    if material.validation:
        lines.append(f"{len(material.validation)} case(s) are of validation patients, who are never trained on.")
    lines += list(material.skipped[:5])
    return " ".join(lines)
