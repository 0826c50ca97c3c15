"""What was worked out of an image to choose cases by: features of the whole image, or first clicks on a structure."""

import sqlite3
from dataclasses import dataclass, fields

BY_SCORE = ("coverage", "foreground", "predicted_error")
"""Strategies of Next Sample that choose by scores."""
WHOLE = ""
"""In place of a structure: what the network of the preset sees in the whole image."""


@dataclass(frozen=True)
class Score:
    """What was worked out of one image for one preset.

    Attributes:
        image: id.
        preset: name.
        structure: on which first clicks were simulated, or `WHOLE`.
        content: sha256 of the image's voxels, type and affine; "" where the image could not be read.
        file: changes when the file of the image is replaced.
        version: sha256 of the weights.
        numbers: float32, little-endian; empty where there are none, such as of an image that cannot be read.
        at: seconds since 1970.
    """

    image: str
    preset: str
    structure: str
    content: str
    file: str
    version: str
    numbers: bytes
    at: float


def keep_score(connection: sqlite3.Connection, score: Score) -> None:
    """Keeps a score in place of an earlier one; within a change of the database."""
    connection.execute(
        "INSERT OR REPLACE INTO scores (image, preset, structure, content, file, version, numbers, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        tuple(getattr(score, field.name) for field in fields(score)),
    )


def scores_of_image(connection: sqlite3.Connection, preset: str, image: str) -> dict[str, Score]:
    """The scores of an image by structure, each of whatever version."""
    rows = connection.execute("SELECT * FROM scores WHERE preset = ? AND image = ?", (preset, image))
    return {row["structure"]: Score(**dict(row)) for row in rows}


def read_scores(connection: sqlite3.Connection, preset: str, version: str) -> dict[str, dict[str, Score]]:
    """The scores with a version of the weights, by structure and image id."""
    found: dict[str, dict[str, Score]] = {}
    rows = connection.execute(
        "SELECT * FROM scores WHERE preset = ? AND version = ? ORDER BY structure", (preset, version)
    )
    for row in rows:
        found.setdefault(row["structure"], {})[row["image"]] = Score(**dict(row))
    return found
