"""Review decisions of second readers on labels, and what follows from them."""

import hashlib
import re
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

ACCEPT, REJECT, CORRECT, WITHDRAW = "accept", "reject", "correct", "withdraw"
DRAFT, FINAL, VERSION = "draft", "final", "version_"
"""Tags of labels; versions are counted by a number behind it."""
SERIES = "SeriesInstanceUID"
"""Key of what is kept beside a label of a PACS."""
LOGIN = "login"
"""Key of what is kept beside a label: who was logged in when it was saved."""
SUBMITTED, ACCEPTED, REJECTED, CORRECTED = "submitted", "accepted", "rejected", "corrected"

_ID = re.compile(r"[0-9a-f]{32}")
_STATES = {ACCEPT: ACCEPTED, REJECT: REJECTED, CORRECT: CORRECTED, WITHDRAW: SUBMITTED}


@dataclass(frozen=True)
class Label:
    """A label as the workflow sees it.

    Attributes:
        image: id of its image.
        tag: of the label.
        sha256: of its file.
        author: who drew it; "" where nobody knows.
        saved_at: seconds since 1970.
        info: what is kept beside it.
        is_current: whether it is there; False for one that was replaced or deleted, and lies in the history.
    """

    image: str
    tag: str
    sha256: str
    author: str
    saved_at: float
    info: Mapping[str, Any]
    is_current: bool = True

    @property
    def id(self) -> str:
        """Changes with the voxels; tells nothing of the image."""
        return label_id(self.image, self.tag, self.sha256)

    @property
    def parent(self) -> str:
        """Id of the label that this one corrects; "" for none."""
        parent = self.info.get("parent")
        return parent if isinstance(parent, str) and _ID.fullmatch(parent) else ""

    @property
    def series(self) -> str:
        """SeriesInstanceUID of the DICOM SEG that a PACS has of it; "" for none."""
        series = self.info.get(SERIES)
        return series if isinstance(series, str) else ""


@dataclass(frozen=True)
class Review:
    """A review decision on a label.

    Attributes:
        label: id.
        image: id of its image.
        tag: of the label.
        decision: accept, reject, correct or withdraw.
        by: who reads; "" where MONAILabelReviewer named nobody.
        comment: why.
        at: seconds since 1970.
        new_label: id of the label that corrects it; "" for other decisions.
        sha256: of the label's file; "" where it is not known.
    """

    label: str
    image: str
    tag: str
    decision: str
    by: str
    comment: str
    at: float
    new_label: str = ""
    sha256: str = ""


_COLUMNS = ", ".join(field.name for field in fields(Review))


def label_id(image: str, tag: str, sha256: str) -> str:
    """The id of a label."""
    return hashlib.sha256(f"{image}\n{tag}\n{sha256}".encode()).hexdigest()[:32]


def is_reviewed(tag: str) -> bool:
    """Whether labels of this tag are read a second time, and learned from."""
    return tag == FINAL or (tag.startswith(VERSION) and tag.removeprefix(VERSION).isdecimal())


def author_of(info: Mapping[str, Any]) -> str:
    """Who drew a label: who was logged in, else the name that came with it; "" where nobody knows."""
    names = (info.get(key) for key in (LOGIN, "author", "client_id"))
    return next((name.strip() for name in names if isinstance(name, str) and name.strip()), "")


def is_same_person(one: str, other: str) -> bool:
    """Whether two names are the same; an unknown person is nobody."""
    return bool(one.strip()) and " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def add_review(connection: sqlite3.Connection, review: Review) -> None:
    """Keeps a review decision; within a change of the database."""
    connection.execute(
        f"INSERT INTO reviews ({_COLUMNS}) VALUES ({', '.join('?' * len(fields(review)))})", astuple(review)
    )


def read_reviews(connection: sqlite3.Connection, *, image: str | None = None, label: str | None = None) -> list[Review]:
    """All review decisions, oldest first.

    Args:
        connection: of the database.
        image: on labels of this image alone.
        label: on the label of this id alone.
    """
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM reviews"
        " WHERE (?1 IS NULL OR image = ?1) AND (?2 IS NULL OR label = ?2) ORDER BY number",
        (image, label),
    )
    return [Review(*row) for row in rows]


Newest = Mapping[tuple[str, str], Review]
"""The last decision by image id and label id: what a label says of its parent holds for its own image alone."""


def newest(reviews: Iterable[Review]) -> Newest:
    """The last decisions."""
    return {(review.image, review.label): review for review in reviews}


def rejected_files(reviews: Newest) -> frozenset[str]:
    """sha256 of all labels whose last decision is that they are rejected, also of those that were replaced since."""
    return frozenset(review.sha256 for review in reviews.values() if review.decision == REJECT) - {""}


def state_of(label: Label, reviews: Newest) -> str:
    """draft, submitted, accepted, rejected or corrected.

    Args:
        label: with a tag that the workflow knows.
        reviews: from `newest`.
    """
    if label.tag == DRAFT:
        return DRAFT
    review = reviews.get((label.image, label.id))
    return _STATES[review.decision] if review else SUBMITTED


# Labels that were sent to a PACS, whose files this server may lose.


def unknown_sent(cached: Iterable[Label], sent: Iterable[Label]) -> list[Label]:
    """Final labels that were sent to a PACS after those that the database has.

    Args:
        cached: labels that this server has.
        sent: from `read_sent`.
    """
    known = {label.image: label for label in sent}
    return [
        label
        for label in cached
        if label.tag == FINAL
        and label.series
        and (label.image not in known or label.saved_at >= known[label.image].saved_at)
        and (label.image not in known or _sent_row(label) != _sent_row(known[label.image]))
    ]


def newest_sent(cached: Iterable[Label], sent: Iterable[Label]) -> list[Label]:
    """The labels of a PACS: what this server has, but for those that it lost, or that another server has replaced.

    Args:
        cached: labels that this server has.
        sent: from `read_sent`.
    """
    finals = {label.image: label for label in sent}
    found = []
    for label in cached:
        last = finals.pop(label.image, None) if label.tag == FINAL else None
        found.append(last if last and last.saved_at > label.saved_at else label)
    return [*found, *finals.values()]


def note_sent(connection: sqlite3.Connection, label: Label) -> None:
    """Keeps what the states of its image need of a label; within a change of the database."""
    connection.execute(
        "INSERT OR REPLACE INTO sent_labels (image, sha256, author, saved_at, parent, series)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        _sent_row(label),
    )


def read_sent(connection: sqlite3.Connection, image: str | None = None) -> list[Label]:
    """The final labels that were sent to a PACS; of each image, the last one counts.

    Args:
        connection: of the database.
        image: of this image alone.
    """
    rows = connection.execute(
        "SELECT image, sha256, author, saved_at, parent, series FROM sent_labels WHERE ?1 IS NULL OR image = ?1"
        " ORDER BY number",
        (image,),
    )
    return [
        Label(image, FINAL, sha256, author, saved_at, {"parent": parent, SERIES: series})
        for image, sha256, author, saved_at, parent, series in rows
    ]


def replaced_sent(sent: Iterable[Label]) -> list[Label]:
    """Those labels of `read_sent` that another one has replaced, newest first."""
    sent = list(sent)
    last = {label.image: label.id for label in sent}
    return [replace(label, is_current=False) for label in reversed(sent) if label.id != last[label.image]]


def _sent_row(label: Label) -> tuple[str, str, str, float, str, str]:
    return label.image, label.sha256, label.author, label.saved_at, label.parent, label.series


# What MONAILabelReviewer keeps beside a label.

META = "segmentationMeta"
APPROVED, FLAGGED, SEGMENTED, NOT_SEGMENTED = "approved", "flagged", "segmented", "not segmented"
META_KEYS = ("status", "approvedBy", "level", "comment", "editTime")
"""It reads all of them, and fails where one is missing."""
_DECISIONS = {APPROVED: ACCEPT, FLAGGED: REJECT}
_STATUS = {ACCEPT: APPROVED, REJECT: FLAGGED, WITHDRAW: SEGMENTED}


def review_of(label: Label) -> Review | None:
    """The decision beside a label; None where there is none."""
    meta = label.info.get(META)
    if not isinstance(meta, Mapping):
        return None
    at = meta.get("editTime")
    at = float(at) if isinstance(at, int | float) and 0 < at < 1e11 else time.time()
    decision = _DECISIONS.get(str(meta.get("status")), WITHDRAW)
    by, comment = (str(meta.get(key) or "")[:limit] for key, limit in (("approvedBy", 100), ("comment", 4000)))
    return Review(label.id, label.image, label.tag, decision, by, comment, at, sha256=label.sha256)


def meta_of(review: Review, before: Any) -> dict[str, Any]:
    """A decision as it is kept beside a label.

    Args:
        review: accept, reject or withdraw.
        before: what was kept there; its level stays.
    """
    level = before.get("level", "") if isinstance(before, Mapping) else ""
    return {
        "status": _STATUS[review.decision],
        "approvedBy": review.by,
        "level": level,
        "comment": review.comment,
        "editTime": int(review.at),
    }


def unknown_reviews(labels: Sequence[Label], known: Iterable[Review], *, may_review_own: bool) -> list[Review]:
    """Decisions beside labels that the database lacks: of MONAILabelReviewer, or of a database that was lost.

    Args:
        labels: as they are now.
        known: all of their images.
        may_review_own: whether a label that its author accepts is accepted.
    """
    known = list(known)
    last = newest(review for review in known if review.decision != CORRECT)
    corrected = {(review.label, review.new_label) for review in known if review.decision == CORRECT}
    found = []
    for label in labels:
        if not (label.is_current and is_reviewed(label.tag)):
            continue
        if label.parent and label.parent != label.id and (label.parent, label.id) not in corrected:
            found.append(
                Review(label.parent, label.image, label.tag, CORRECT, label.author, "", label.saved_at, label.id)
            )
        review, before = review_of(label), last.get((label.image, label.id))
        if review is None or (before is None and review.decision == WITHDRAW):
            continue
        if before and (review.decision, review.by, review.comment) == (before.decision, before.by, before.comment):
            continue
        if review.decision == ACCEPT and is_same_person(review.by, label.author) and not may_review_own:
            continue
        found.append(review)
    return found
