"""The database of the workflow: one SQLite file, shared by all servers of a folder of studies.

With SQLite's rollback journal. WAL would need shared memory, which machines on a network drive do not have.
"""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lib.files.lock import file_lock, locked
from lib.studies.label_changes import HISTORY
from lib.studies.presence import StudiesError

logger = logging.getLogger(__name__)

NAME = "workflow.sqlite"
TIMEOUT_S = 10.0

MIGRATIONS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "CREATE TABLE reviews (number INTEGER PRIMARY KEY, label TEXT NOT NULL, image TEXT NOT NULL,"
            " tag TEXT NOT NULL, verdict TEXT NOT NULL, by TEXT NOT NULL, comment TEXT NOT NULL, at REAL NOT NULL,"
            " new_label TEXT NOT NULL, sha256 TEXT NOT NULL)",
            "CREATE INDEX reviews_of_label ON reviews (label)",
            "CREATE TABLE marks (image TEXT PRIMARY KEY, mark TEXT NOT NULL, by TEXT NOT NULL,"
            " comment TEXT NOT NULL, at REAL NOT NULL)",
        ),
        ("DROP TABLE reviews", "DROP TABLE marks"),
    ),
    (
        (
            "CREATE TABLE leases (image TEXT PRIMARY KEY, number INTEGER NOT NULL, annotator TEXT NOT NULL,"
            " held_since REAL)",
            "CREATE TABLE viewers (client TEXT PRIMARY KEY, image TEXT NOT NULL, by TEXT NOT NULL,"
            " seen_at REAL NOT NULL)",
        ),
        ("DROP TABLE leases", "DROP TABLE viewers"),
    ),
    (
        ("ALTER TABLE reviews RENAME COLUMN verdict TO decision",),
        ("ALTER TABLE reviews RENAME COLUMN decision TO verdict",),
    ),
    (
        (
            "CREATE TABLE sent_labels (number INTEGER PRIMARY KEY, image TEXT NOT NULL, sha256 TEXT NOT NULL,"
            " author TEXT NOT NULL, saved_at REAL NOT NULL, parent TEXT NOT NULL, series TEXT NOT NULL,"
            " UNIQUE (image, sha256))",
        ),
        ("DROP TABLE sent_labels",),
    ),
    (
        (
            "CREATE TABLE scores (image TEXT NOT NULL, preset TEXT NOT NULL, content TEXT NOT NULL,"
            " file TEXT NOT NULL, version TEXT NOT NULL, features BLOB NOT NULL, at REAL NOT NULL,"
            " PRIMARY KEY (image, preset))",
            "CREATE TABLE served (number INTEGER PRIMARY KEY, image TEXT NOT NULL, strategy TEXT NOT NULL,"
            " arm TEXT NOT NULL, at REAL NOT NULL)",
        ),
        ("DROP TABLE scores", "DROP TABLE served"),
    ),
    (
        (
            "CREATE TABLE first_dice (image TEXT NOT NULL, preset TEXT NOT NULL, label TEXT NOT NULL,"
            " patient TEXT NOT NULL, version TEXT NOT NULL, dice REAL, at REAL NOT NULL, PRIMARY KEY (image, preset))",
        ),
        ("DROP TABLE first_dice",),
    ),
    (
        (
            "ALTER TABLE scores RENAME TO former_scores",
            "CREATE TABLE scores (image TEXT NOT NULL, preset TEXT NOT NULL, structure TEXT NOT NULL,"
            " content TEXT NOT NULL, file TEXT NOT NULL, version TEXT NOT NULL, numbers BLOB NOT NULL,"
            " at REAL NOT NULL, PRIMARY KEY (image, preset, structure))",
            "INSERT INTO scores SELECT image, preset, '', content, file, version, features, at FROM former_scores",
            "DROP TABLE former_scores",
        ),
        (
            "ALTER TABLE scores RENAME TO later_scores",
            "CREATE TABLE scores (image TEXT NOT NULL, preset TEXT NOT NULL, content TEXT NOT NULL,"
            " file TEXT NOT NULL, version TEXT NOT NULL, features BLOB NOT NULL, at REAL NOT NULL,"
            " PRIMARY KEY (image, preset))",
            "INSERT INTO scores SELECT image, preset, content, file, version, numbers, at FROM later_scores"
            " WHERE structure = ''",
            "DROP TABLE later_scores",
        ),
    ),
)
"""Statements that bring the database from version n to n + 1, and those that bring it back."""


class WorkflowError(StudiesError):
    """The database cannot be used; a sentence for users, with what to do and without a path."""


def database_beside(studies: Path) -> "Database":
    """The database of a folder of images."""
    return Database(studies / HISTORY / f".{NAME}")


class Database:
    """The file; nothing is made or opened before it has to be.

    Args:
        path: of the file; made with its folder by the first change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For questions; an empty database where there is no file yet.

        Raises:
            WorkflowError: the file cannot be used.
        """
        with _in_words(), self._opened(self.path if self.path.exists() else None) as connection:
            yield connection

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """For a change: what is done in the ``with`` block counts as a whole at its end, or not at all.

        Raises:
            WorkflowError: the file cannot be used, or another process keeps it locked.
        """
        with _in_words():
            self._make()
            with self._opened(self.path) as connection, _transaction(connection):
                yield connection

    def migrate(self, to: int) -> None:
        """Brings the file to a version of its tables, forward or back.

        Raises:
            WorkflowError: there is no such version, or the file cannot be used.
        """
        if not 0 <= to <= len(MIGRATIONS):
            raise WorkflowError(f"The workflow database has versions 0 to {len(MIGRATIONS)}, not {to}.")
        if not self.path.exists():
            raise WorkflowError("There is no workflow database here yet, so there is nothing to bring to a version.")
        with _in_words(), contextlib.closing(_connect(self.path)) as connection:
            _migrate(connection, to)

    def _make(self) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # For the server's user alone, as the lock of the folder; SQLite takes an empty file for an empty database.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))

    @contextlib.contextmanager
    def _opened(self, path: Path | None) -> Iterator[sqlite3.Connection]:
        try:
            connection = _current(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            connection = _current(path)
        with contextlib.closing(connection):
            yield connection

    def _set_aside(self, why: sqlite3.DatabaseError) -> None:
        busy = WorkflowError("Another server mends the workflow database. Try again.")
        with locked(file_lock(self.path.with_name(f"{self.path.name}.lock"), TIMEOUT_S), busy):
            try:
                # Another process may have done it meanwhile.
                _current(self.path).close()
            except sqlite3.DatabaseError:
                kept = self.path.with_name(f"{self.path.stem}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.sqlite")
                self.path.rename(kept)
                self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
                self._make()
                logger.error("The workflow database was damaged (%s). It is kept as '%s'.", why, kept.stem)


def _connect(path: Path | None) -> sqlite3.Connection:
    connection = sqlite3.connect(path or ":memory:", timeout=TIMEOUT_S, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


def _current(path: Path | None) -> sqlite3.Connection:
    """An open database with the tables of this release."""
    connection = _connect(path)
    try:
        # SQLite looks into the tables at the first question alone.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version > len(MIGRATIONS):
            raise WorkflowError(
                f"The workflow database is of a newer release (version {version}; this one knows {len(MIGRATIONS)}). "
                f"Start that release, or run its 'sam3d labels schema --to {len(MIGRATIONS)}'."
            )
        if version < len(MIGRATIONS):
            _migrate(connection, len(MIGRATIONS))
        return connection
    except BaseException:
        connection.close()
        raise


def _migrate(connection: sqlite3.Connection, to: int) -> None:
    with _transaction(connection):
        # Once more under the lock: another process may have been faster.
        now = connection.execute("PRAGMA user_version").fetchone()[0]
        if now > len(MIGRATIONS):
            raise WorkflowError(f"The workflow database is of a newer release (version {now}).")
        steps = [MIGRATIONS[n][0] for n in range(now, to)] or [MIGRATIONS[n][1] for n in range(now - 1, to - 1, -1)]
        for statement in (one for step in steps for one in step):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {to}")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise WorkflowError("Another server keeps the workflow database locked. Try again.") from error
        raise WorkflowError(
            f"The workflow database cannot be used ({error}). Give the server the right to write there, and room."
        ) from error
