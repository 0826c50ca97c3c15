"""The workflow's database: shared, killed, damaged, migrated."""

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lib.workflow.cases import Leases, Mark, note_open, read_marks, read_viewers, set_mark
from lib.workflow.database import MIGRATIONS, Database, WorkflowError
from lib.workflow.reviews import Label, Review, add_review, note_sent, read_reviews, read_sent
from lib.workflow.scores import WHOLE, Score, keep_score, read_scores, scores_of_image
from tests.support.faulty_disk import in_child

REVIEW = Review("a" * 32, "case_1", "final", "reject", "Dr. Roe", "The tail is missing.", 5.0)
SENT = Label("case_1", "final", "b" * 64, "Dr. Roe", 8.5, {"parent": "", "SeriesInstanceUID": "1.2.3"})
TABLES = {"reviews", "marks", "leases", "viewers", "sent_labels", "scores", "served", "first_dice"}
MARK = Mark("problem", "Dr. Poe", "Not this patient.", 6.0)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "label_history" / ".workflow.sqlite")


def reviews(database: Database) -> list[Review]:
    with database.reading() as connection:
        return read_reviews(connection)


def test_reading_makes_nothing(database: Database) -> None:
    assert reviews(database) == [] and not database.path.parent.exists()


def test_what_was_kept_is_read_again_and_the_file_is_private(database: Database) -> None:
    with database.changing() as connection:
        add_review(connection, REVIEW)
        set_mark(connection, "case_1", MARK)
    assert reviews(database) == [REVIEW]
    with database.reading() as connection:
        assert read_marks(connection) == {"case_1": MARK}
        assert read_reviews(connection, image="case_2") == read_reviews(connection, label="b" * 32) == []
    with database.changing() as connection:
        set_mark(connection, "case_1", None)
    with database.reading() as connection:
        assert read_marks(connection) == {}
    assert database.path.stat().st_mode & 0o077 == 0
    assert [path.name for path in database.path.parent.iterdir()] == [database.path.name]


def test_labels_that_a_pacs_was_sent_are_kept_in_their_order_and_each_once(database: Database) -> None:
    later = replace(SENT, sha256="c" * 64, info={"parent": SENT.id, "SeriesInstanceUID": "1.2.4"})
    with database.changing() as connection:
        for label in (later, SENT, later):
            note_sent(connection, label)
    with database.reading() as connection:
        assert read_sent(connection) == read_sent(connection, "case_1") == [SENT, later]
        assert read_sent(connection, "case_2") == []


def test_a_change_that_fails_changes_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.changing() as connection:
        add_review(connection, REVIEW)
        raise RuntimeError
    assert reviews(database) == []


def test_images_are_open_until_the_client_opens_another_or_is_gone(database: Database) -> None:
    def seen(now: float, but: str = "") -> dict[str, list[str]]:
        with database.reading() as connection:
            found = read_viewers(connection, now, but)
        return {image: [viewer.by for viewer in viewers] for image, viewers in found.items()}

    def note(image: str, by: str, client: str, now: float) -> None:
        with database.changing() as connection:
            note_open(connection, image, by, client, now)

    note("a", "Dr. Roe", "1", 1000)
    note("a", " ", "2", 1000)
    assert seen(1000) == {"a": ["", "Dr. Roe"]} and seen(1000, but="1") == {"a": [""]}
    note("b", "Dr. Roe", "1", 1000)
    assert seen(1000) == {"a": [""], "b": ["Dr. Roe"]}
    note("b", "Dr. Roe", "1", 1045)
    assert seen(1090) == {"b": ["Dr. Roe"]}
    assert seen(900) == {}, "a clock that was set back keeps nobody for ever"


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_database_is_set_aside_and_begun_anew(
    database: Database, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    database.path.parent.mkdir()
    database.path.write_bytes(content)
    assert reviews(database) == [] and "damaged" in caplog.text
    (kept,) = database.path.parent.glob(".workflow.damaged-*.sqlite")
    assert kept.read_bytes() == content
    with database.changing() as connection:
        add_review(connection, REVIEW)
    assert reviews(database) == [REVIEW]


def test_a_folder_that_cannot_be_written_to_is_said_in_words(database: Database) -> None:
    database.path.parent.write_text("a file in the way")
    with pytest.raises(OSError), database.changing():
        pass
    assert reviews(database) == []


# Migration


def test_each_version_can_be_reached_forward_and_back(database: Database) -> None:
    def tables() -> set[str]:
        with sqlite3.connect(database.path) as connection:
            return {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}

    with database.changing() as connection:
        add_review(connection, REVIEW)
        Leases(connection).give("case_1", "anna", 7.0)
        note_sent(connection, SENT)
    assert tables() == TABLES
    database.migrate(4)
    assert tables() == TABLES - {"scores", "served", "first_dice"}
    database.migrate(2)
    assert tables() == {"reviews", "marks", "leases", "viewers"}
    with sqlite3.connect(database.path) as old:
        assert old.execute("SELECT verdict FROM reviews").fetchall() == [("reject",)]
    database.migrate(1)
    assert tables() == {"reviews", "marks"}
    # The next question brings it forward; what the version had is still there.
    assert reviews(database) == [REVIEW]
    with database.reading() as connection:
        assert Leases(connection).last == {} and read_sent(connection) == []
    database.migrate(0)
    assert tables() == set()
    assert reviews(database) == [] and tables() == TABLES


def test_features_of_images_stay_when_scores_of_structures_come_and_go(database: Database) -> None:
    whole = Score("case_1", "ct", WHOLE, "content", "file", "version", b"1234", 5.0)
    with database.changing() as connection:
        keep_score(connection, whole)
        keep_score(connection, replace(whole, structure="lesion", numbers=b"5678"))
    database.migrate(6)
    with sqlite3.connect(database.path) as old:
        assert old.execute("SELECT image, features, at FROM scores").fetchall() == [("case_1", b"1234", 5.0)]
    with database.reading() as connection:
        assert scores_of_image(connection, "ct", "case_1") == {WHOLE: whole}
        assert read_scores(connection, "ct", "version") == {WHOLE: {"case_1": whole}}
        assert read_scores(connection, "ct", "another") == read_scores(connection, "mr", "version") == {}


@pytest.mark.parametrize("to", [-1, len(MIGRATIONS) + 1])
def test_other_versions_are_refused(database: Database, to: int) -> None:
    with pytest.raises(WorkflowError, match="has versions 0 to"):
        database.migrate(to)


def test_a_newer_release_s_database_stays_as_it_is(database: Database) -> None:
    with database.changing() as connection:
        add_review(connection, REVIEW)
        connection.execute("CREATE TABLE figures (x)")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = database.path.read_bytes()
    for use in (database.reading, database.changing):
        with pytest.raises(WorkflowError, match="newer release"), use():
            pass
    with pytest.raises(WorkflowError, match="newer release"):
        database.migrate(1)
    assert database.path.read_bytes() == before


# Kills and other processes


def counted(connection: sqlite3.Connection, kill_at: int | None) -> Callable[[], int]:
    """Counts the statements of a change; ends the process in the place of one."""
    count = 0

    def step(statement: str) -> None:
        nonlocal count
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    connection.set_trace_callback(step)
    return lambda: count


def change(database: Database, kill_at: int | None = None) -> int:
    with database.changing() as connection:
        statements = counted(connection, kill_at)
        add_review(connection, REVIEW)
        set_mark(connection, "case_1", MARK)
        Leases(connection).give("case_1", "anna", 7.0)
        # Pages that do not fit into the cache reach the file, and the journal, before the end.
        connection.execute("PRAGMA cache_size = 1")
        for number in range(50):
            add_review(connection, Review(f"{number:032}", "case_2", "final", "accept", "x" * 90, "y" * 3000, 1.0))
    return statements()


@pytest.mark.parametrize("at", [0, 1, 3, 5, 6, 30, 55, 56])
def test_a_kill_at_any_statement_leaves_before_or_after(database: Database, at: int) -> None:
    with database.changing() as connection:
        add_review(connection, REVIEW)
    assert os.WIFSIGNALED(in_child(lambda: change(database, at))), f"statement {at} was not reached"
    assert reviews(database) == [REVIEW]
    with database.reading() as connection:
        assert read_marks(connection) == {} and Leases(connection).last == {}
    change(database)
    assert len(reviews(database)) == 52


@pytest.mark.parametrize("at", range(0, 9, 2))
def test_a_kill_while_the_tables_are_made_is_made_good(
    database: Database, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> None:
        real = sqlite3.connect

        def connect(*arguments: object, **keywords: object) -> sqlite3.Connection:
            connection: sqlite3.Connection = real(*arguments, **keywords)  # type: ignore[call-overload]
            counted(connection, at)
            return connection

        monkeypatch.setattr(sqlite3, "connect", connect)
        with database.changing() as connection:
            add_review(connection, REVIEW)

    assert os.WIFSIGNALED(in_child(make)), f"statement {at} was not reached"
    assert reviews(database) == []
    with database.changing() as connection:
        add_review(connection, REVIEW)
    assert reviews(database) == [REVIEW]


def _many(path: Path, who: str, barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait(60)
    for number in range(20):
        with Database(path).changing() as connection:
            add_review(connection, Review(f"{number:032}", "case_1", "final", "accept", who, "", 1.0))


def test_two_processes_lose_nothing_of_each_other(database: Database) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    workers = [context.Process(target=_many, args=(database.path, who, barrier)) for who in ("anna", "ben")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(review.by for review in reviews(database)) == ["anna"] * 20 + ["ben"] * 20
