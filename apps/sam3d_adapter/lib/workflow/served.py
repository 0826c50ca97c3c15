"""Which case Next Sample gave, and how it was chosen."""

import sqlite3
from dataclasses import dataclass

STRATEGY, RANDOM, FALLBACK = "strategy", "random", "fallback"
"""Arms: chosen by the strategy; drawn at random; chosen by the queue, for the strategy could not."""


@dataclass(frozen=True)
class Served:
    """A case that was given to an annotator.

    Attributes:
        number: counts up.
        image: id.
        strategy: that was asked.
        arm: one of `STRATEGY`, `RANDOM`, `FALLBACK`.
        at: seconds since 1970.
    """

    number: int
    image: str
    strategy: str
    arm: str
    at: float


def note_served(connection: sqlite3.Connection, image: str, strategy: str, arm: str, at: float) -> None:
    """Keeps that a case was given; within a change of the database."""
    connection.execute("INSERT INTO served (image, strategy, arm, at) VALUES (?, ?, ?, ?)", (image, strategy, arm, at))


def read_served(connection: sqlite3.Connection) -> list[Served]:
    """All that were given, in their order."""
    return [Served(*row) for row in connection.execute("SELECT * FROM served ORDER BY number")]
