"""What the workflow knows of a case beside its labels: a mark, its lease, who has it on screen; and its state."""

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lib.workflow.reviews import (
    ACCEPTED,
    CORRECTED,
    DRAFT,
    REJECTED,
    SUBMITTED,
    Label,
    Newest,
    is_reviewed,
    state_of,
)

NEW, SKIPPED, PROBLEM = "new", "skipped", "problem"
MARKS = (SKIPPED, PROBLEM)
OPEN_S = 90.0
"""How long an image counts as open after its viewer has said so."""
_MOST_VIEWERS = 1000


@dataclass(frozen=True)
class Mark:
    """What somebody said of a case.

    Attributes:
        mark: skipped or problem.
        by: who said so.
        comment: why.
        at: seconds since 1970.
    """

    mark: str
    by: str
    comment: str
    at: float


def read_marks(connection: sqlite3.Connection) -> dict[str, Mark]:
    """The marks by image id."""
    return {row[0]: Mark(*row[1:]) for row in connection.execute("SELECT image, mark, by, comment, at FROM marks")}


def set_mark(connection: sqlite3.Connection, image: str, mark: Mark | None) -> None:
    """Marks a case, or takes its mark away; within a change of the database."""
    connection.execute("DELETE FROM marks WHERE image = ?", (image,))
    if mark is not None:
        connection.execute(
            "INSERT INTO marks (image, mark, by, comment, at) VALUES (?, ?, ?, ?, ?)",
            (image, mark.mark, mark.by, mark.comment, mark.at),
        )


def case_state(
    labels: Sequence[Label], reviews: Newest, mark: Mark | None, *, is_labelled_elsewhere: bool = False
) -> tuple[str, Label | None]:
    """The state of a case, and the label that it comes from.

    Args:
        labels: of the case that are current.
        reviews: from `lib.workflow.reviews.newest`.
        mark: of the case.
        is_labelled_elsewhere: whether a PACS has a label that did not come through this server.
    """
    known = [label for label in labels if label.is_current and (label.tag == DRAFT or is_reviewed(label.tag))]
    if mark is not None and mark.mark == PROBLEM:
        return PROBLEM, best_label(known, reviews)
    # Times may be whole seconds; of two that are equal the submitted one counts.
    last = max(known, key=lambda label: (label.saved_at, label.tag != DRAFT), default=None)
    if last is not None and last.tag == DRAFT:
        return DRAFT, last
    best = best_label(known, reviews)
    if best is not None and (state := state_of(best, reviews)) in (SUBMITTED, ACCEPTED):
        return state, best
    if mark is not None and (best is None or mark.at >= best.saved_at):
        return SKIPPED, best
    if best is not None:
        return REJECTED, best
    return (SUBMITTED if is_labelled_elsewhere else NEW), None


def best_label(labels: Iterable[Label], reviews: Newest) -> Label | None:
    """The label of a case that counts: an accepted one, else one that waits for a decision, else one that was refused.

    Among equals ``final`` comes first, then the newest.
    """
    order = {ACCEPTED: 3, SUBMITTED: 2, REJECTED: 1, CORRECTED: 0}
    return max(
        (label for label in labels if is_reviewed(label.tag)),
        key=lambda label: (order[state_of(label, reviews)], label.tag == "final", label.saved_at, label.tag),
        default=None,
    )


def annotator_hash(name: str) -> str:
    """A short hash, so that neither names nor long texts of a request are kept with a lease; "" without a name."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16] if name else ""


@dataclass(frozen=True)
class Lease:
    """The last time that a case was given to an annotator.

    Attributes:
        number: counts up over all cases, so that the order does not depend on the clock.
        annotator: from `annotator_hash`.
        held_since: start of the lease, seconds since 1970; None if it has ended.
    """

    number: int
    annotator: str
    held_since: float | None

    def is_held(self, now: float, lock_s: float) -> bool:
        """Whether the lease lasts."""
        # A start in the future means that the clock was set back; such a lease could last for ever.
        return self.held_since is not None and 0 <= now - self.held_since < lock_s


class Leases:
    """The last lease of each case, by image id; within a change of the database.

    Args:
        connection: of the database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.last = {row[0]: Lease(*row[1:]) for row in connection.execute("SELECT * FROM leases")}

    def give(self, image: str, annotator: str, now: float) -> None:
        """Starts a lease."""
        number = 1 + max((lease.number for lease in self.last.values()), default=0)
        self._set(image, Lease(number, annotator, now))

    def renew(self, image: str, now: float) -> None:
        """Restarts the time of a lease; the case does not count as given again."""
        self._set(image, Lease(self.last[image].number, self.last[image].annotator, now))

    def release(self, image: str) -> None:
        """Ends a lease."""
        self._set(image, Lease(self.last[image].number, self.last[image].annotator, None))

    def _set(self, image: str, lease: Lease) -> None:
        self.last[image] = lease
        self._connection.execute(
            "INSERT OR REPLACE INTO leases (image, number, annotator, held_since) VALUES (?, ?, ?, ?)",
            (image, lease.number, lease.annotator, lease.held_since),
        )


@dataclass(frozen=True)
class Viewer:
    """Somebody who has an image on screen.

    Attributes:
        image: id.
        by: name; "" for who gave none.
        seen_at: when the viewer last said so, seconds since 1970.
    """

    image: str
    by: str
    seen_at: float


def note_open(connection: sqlite3.Connection, image: str, by: str, client: str, now: float) -> None:
    """A client has an image on screen, and no other one; within a change of the database."""
    connection.execute("DELETE FROM viewers WHERE NOT (seen_at > ? AND seen_at <= ?)", (now - OPEN_S, now))
    count = connection.execute("SELECT count(*) FROM viewers WHERE client != ?", (client,)).fetchone()[0]
    if count < _MOST_VIEWERS:
        connection.execute(
            "INSERT OR REPLACE INTO viewers (client, image, by, seen_at) VALUES (?, ?, ?, ?)",
            (client, image, by.strip(), now),
        )


def read_viewers(connection: sqlite3.Connection, now: float, but: str = "") -> dict[str, list[Viewer]]:
    """Who has which image on screen, by image id.

    Args:
        connection: of the database.
        now: seconds since 1970.
        but: a client that is left out.
    """
    found: dict[str, list[Viewer]] = {}
    rows = connection.execute(
        "SELECT image, by, seen_at FROM viewers WHERE seen_at > ? AND seen_at <= ? AND client != ? ORDER BY by",
        (now - OPEN_S, now, but),
    )
    for row in rows:
        found.setdefault(row[0], []).append(Viewer(*row))
    return found


def names_of(viewers: Iterable[Viewer]) -> list[str]:
    """Their names, ``"somebody"`` for who gave none."""
    return sorted({viewer.by or "somebody" for viewer in viewers})


def in_progress(
    viewers: Sequence[Viewer], lease: Lease | None, now: float, lock_s: float
) -> tuple[list[str], float] | None:
    """Who works on a case, and until when unless it is renewed, seconds since 1970; None where nobody does."""
    until = [viewer.seen_at + OPEN_S for viewer in viewers]
    by = names_of(viewers)
    if lease is not None and lease.held_since is not None and lease.is_held(now, lock_s):
        until.append(lease.held_since + lock_s)
        by = by or ["somebody"]
    return (by, max(until)) if until else None
