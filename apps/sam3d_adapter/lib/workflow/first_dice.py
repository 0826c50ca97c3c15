"""How far the first answer on a case agreed with the label that was submitted later."""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True)
class FirstDice:
    """Of one case and one preset.

    Attributes:
        image: id.
        preset: whose answer it was.
        label: sha256 of the submitted label's file.
        patient: keyed hash of the name.
        version: sha256 of the weights that answered; "" where no answer is known.
        dice: after one click, mean over the objects of the case; None where no answer can be computed again.
        at: when the label was saved, seconds since 1970.
    """

    image: str
    preset: str
    label: str
    patient: str
    version: str
    dice: float | None
    at: float


def keep_first_dice(connection: sqlite3.Connection, found: FirstDice) -> None:
    """Keeps it in place of that of an earlier label; within a change of the database."""
    connection.execute(
        "INSERT OR REPLACE INTO first_dice (image, preset, label, patient, version, dice, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (found.image, found.preset, found.label, found.patient, found.version, found.dice, found.at),
    )


def read_first_dice(connection: sqlite3.Connection, preset: str) -> dict[str, FirstDice]:
    """All of a preset, by image id."""
    rows = connection.execute("SELECT * FROM first_dice WHERE preset = ?", (preset,))
    return {row["image"]: FirstDice(**dict(row)) for row in rows}
