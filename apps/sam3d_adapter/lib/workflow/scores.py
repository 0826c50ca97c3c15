"""What was worked out of an image to choose cases by: the features that the network of a preset sees in it."""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """The features of one image for one preset.

    Attributes:
        image: id.
        preset: name.
        content: sha256 of the image's voxels, type and affine; "" where the image could not be read.
        file: changes when the file of the image is replaced.
        version: sha256 of the weights.
        features: float32, little-endian; empty where the image has none, such as one that cannot be read.
        at: seconds since 1970.
    """

    image: str
    preset: str
    content: str
    file: str
    version: str
    features: bytes
    at: float


def keep_score(connection: sqlite3.Connection, score: Score) -> None:
    """Keeps a score in place of an earlier one; within a change of the database."""
    connection.execute(
        "INSERT OR REPLACE INTO scores (image, preset, content, file, version, features, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (score.image, score.preset, score.content, score.file, score.version, score.features, score.at),
    )


def read_score(connection: sqlite3.Connection, preset: str, image: str) -> Score | None:
    """The score of an image, of whatever version."""
    row = connection.execute("SELECT * FROM scores WHERE preset = ? AND image = ?", (preset, image)).fetchone()
    return None if row is None else Score(**dict(row))


def read_scores(connection: sqlite3.Connection, preset: str, version: str) -> dict[str, Score]:
    """The scores with a version of the weights, by image id."""
    rows = connection.execute("SELECT * FROM scores WHERE preset = ? AND version = ?", (preset, version))
    return {row["image"]: Score(**dict(row)) for row in rows}
