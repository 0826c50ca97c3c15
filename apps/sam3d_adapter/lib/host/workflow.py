"""The workflow of a data store: its labels, and what the database beside it says of them."""

import contextlib
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.exception import LabelNotFoundException

from lib.files.checksums import file_sha256
from lib.host.studies_datastore import StudiesDatastore
from lib.studies.folder import Unknown
from lib.studies.label_changes import LabelChange
from lib.workflow.cases import Lease, Leases, Mark, Viewer, read_marks, read_viewers
from lib.workflow.database import NAME, Database, WorkflowError, database_beside
from lib.workflow.reviews import (
    ACCEPT,
    APPROVED,
    CORRECT,
    DRAFT,
    LOGIN,
    META,
    META_KEYS,
    SEGMENTED,
    Label,
    Newest,
    Review,
    add_review,
    author_of,
    is_reviewed,
    is_same_person,
    meta_of,
    newest,
    newest_sent,
    note_sent,
    read_reviews,
    read_sent,
    replaced_sent,
    unknown_reviews,
    unknown_sent,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """All that is known at one moment.

    Attributes:
        labels: that are there, with tags that the workflow knows; of a PACS also those that left this server's cache.
        reviews: oldest first.
        marks: of cases, by image id.
        leases: by image id.
        viewers: by image id.
    """

    labels: Sequence[Label]
    reviews: Sequence[Review]
    marks: Mapping[str, Mark]
    leases: Mapping[str, Lease]
    viewers: Mapping[str, Sequence[Viewer]]

    @functools.cached_property
    def newest(self) -> Newest:
        """The last review decisions."""
        return newest(self.reviews)

    @functools.cached_property
    def by_image(self) -> dict[str, list[Label]]:
        """The labels by image id."""
        found: dict[str, list[Label]] = {}
        for label in self.labels:
            found.setdefault(label.image, []).append(label)
        return found


class Workflow:
    """Reads and changes the workflow of whatever data store it is asked about.

    Args:
        learning_dir: has the database where the data store is a PACS.
        may_review_own: whether people may accept labels of their own.
        lock_s: length of a lease, seconds.
    """

    def __init__(self, learning_dir: Path, *, may_review_own: bool = False, lock_s: float = 1800.0) -> None:
        self._learning_dir = learning_dir
        self.may_review_own, self.lock_s = may_review_own, lock_s

    def database(self, datastore: Any) -> Database:
        """The database of a data store: beside the labels, or in the folder of learning for a PACS.

        Raises:
            StudiesError: the folder of images is away.
        """
        if isinstance(datastore, StudiesDatastore):
            datastore.folder.require()
        if isinstance(datastore, LocalDatastore) and not isinstance(datastore, DICOMWebDatastore):
            return database_beside(Path(datastore._datastore_path))
        return Database(self._learning_dir / NAME)

    def read(self, datastore: Any, image: str | None = None, *, client: str = "") -> Known:
        """What is known; review decisions that MONAILabelReviewer left beside labels are taken over first.

        Args:
            datastore: of the app.
            image: of this image alone, as far as labels and reviews go.
            client: a viewer that is left out.

        Raises:
            WorkflowError: the database cannot be read.
        """
        database = self.database(datastore)
        cached = read_labels(datastore, image)
        with database.reading() as connection:
            sent = read_sent(connection, image)
            labels = newest_sent(cached, sent)
            known = Known(
                labels,
                read_reviews(connection, image=image),
                read_marks(connection),
                Leases(connection).last,
                read_viewers(connection, time.time(), client),
            )
        found = unknown_reviews(labels, known.reviews, may_review_own=self.may_review_own)
        is_pacs = isinstance(datastore, DICOMWebDatastore)
        if not found and not (is_pacs and unknown_sent(cached, sent)):
            return known
        try:
            with database.changing() as connection:
                # Once more under the lock: another process may have been faster, or just write one beside its label.
                cached, reviews = read_labels(datastore, image), read_reviews(connection, image=image)
                sent = read_sent(connection, image)
                for label in unknown_sent(cached, sent) if is_pacs else ():
                    note_sent(connection, label)
                labels = newest_sent(cached, sent)
                found = unknown_reviews(labels, reviews, may_review_own=self.may_review_own)
                for review in found:
                    add_review(connection, review)
        except WorkflowError as error:
            logger.warning("Decisions beside labels count, but cannot be taken over. %s", error)
            reviews = list(known.reviews)
        return replace(known, labels=labels, reviews=[*reviews, *found])

    def review(self, datastore: Any, id: str, decision: str, by: str, comment: str, new_label: str = "") -> Review:
        """Keeps a review decision, in the database and beside the label.

        Args:
            datastore: of the app.
            id: of the label.
            decision: as in `Review`.
            by: who reads.
            comment: why.
            new_label: id of the label that corrects it.

        Raises:
            HTTPException: 403, 404, 409, 422.
            WorkflowError: the database cannot be used; so does OSError.
        """
        known = self.read(datastore)
        there = {label.id: label for label in known.labels}
        label = there.get(id) or next((one for one in self.former_labels(datastore) if one.id == id), None)
        if label is None:
            raise HTTPException(404, f"There is no label with the id {id}; GET /labels/ lists the ids.")
        if label.tag == DRAFT:
            raise HTTPException(409, "This label is a draft. Submit it first (tag 'final'), then review it.")
        review = Review(id, label.image, label.tag, decision, by, comment, time.time(), new_label, label.sha256)
        if decision == CORRECT:
            self._correct(datastore, review, there)
            return review
        if not label.is_current:
            raise HTTPException(
                409, "This label was replaced or deleted in the meantime. GET /labels/?image=... lists what is there "
                "now; look at that, then review it."
            )  # fmt: skip
        if decision == ACCEPT:
            self.require_other(by, label.author)
        with self.database(datastore).changing() as connection:
            # First the file: if this process is killed in between, the decision is taken over from there.
            _describe(datastore, label, {META: meta_of(review, label.info.get(META))})
            add_review(connection, review)
        return review

    def former_labels(self, datastore: Any, image: str | None = None) -> list[Label]:
        """Labels that were replaced or deleted, newest first.

        Args:
            datastore: of the app.
            image: of this image alone.
        """
        if isinstance(datastore, DICOMWebDatastore):
            with self.database(datastore).reading() as connection:
                return replaced_sent(read_sent(connection, image))
        if not isinstance(datastore, StudiesDatastore):
            return []
        found = {}
        for change in datastore.folder.history(image):
            # Where the names alone changed, the label stayed.
            is_gone = change.old is not None and (change.new is None or change.new["sha256"] != change.old["sha256"])
            if change.old is not None and is_gone and (change.tag == DRAFT or is_reviewed(change.tag)):
                label = _label(change.image, change.tag, change.old["sha256"], change.old["info"])
                found[label.id] = replace(label, is_current=False)
        return list(reversed(found.values()))

    def note_sent(self, datastore: Any, change: LabelChange) -> None:
        """Keeps which label of an image a PACS was just sent, for its cache may lose the file.

        Args:
            datastore: of a PACS.
            change: of its label.
        """
        try:
            self.read(datastore, change.image)
        except OSError as error:
            logger.warning("The workflow database does not know of a label that was just saved. %s", error)

    def require_other(self, by: str, author: str) -> None:
        """Passes if somebody may accept a label.

        Raises:
            HTTPException: 403.
        """
        if is_same_person(by, author) and not self.may_review_own:
            raise HTTPException(
                403, f"{by} drew this label, and nobody accepts his own. Ask somebody else to look at it, or start the "
                "server with --conf own_review yes."
            )  # fmt: skip

    def _correct(self, datastore: Any, review: Review, there: Mapping[str, Label]) -> None:
        new = there.get(review.new_label)
        if new is None or new.image != review.image or not is_reviewed(new.tag) or new.id == review.label:
            raise HTTPException(
                422, f"new_label is {review.new_label[:40]!r}; the id of another submitted label of this image is "
                "expected. Save the corrected label first (PUT /datastore/label); GET /labels/ then has its id."
            )  # fmt: skip
        with self.database(datastore).changing() as connection:
            _describe(datastore, new, {"parent": review.label})
            add_review(connection, review)


def read_labels(datastore: Any, image: str | None = None) -> list[Label]:
    """The labels that are there, by image and tag; those that a PACS has from elsewhere are not among them.

    Args:
        datastore: of the app.
        image: of this image alone.
    """
    model = datastore._datastore
    found = []
    for name, case in sorted(model.objects.items() if image is None else [(image, model.objects.get(image))]):
        for key, entry in sorted(case.labels.items()) if case is not None else ():
            tag = str(getattr(key, "value", key))
            # Of a PACS, one with this modality is the host's conversion of a SEG.
            if not (tag == DRAFT or is_reviewed(tag)) or entry.info.get("Modality") == "SEG":
                continue
            file = Path(model.label_path(tag)) / f"{name}{entry.ext}"
            if (sha256 := _sha256(file)) is not None:
                found.append(_label(name, tag, sha256, entry.info))
    return found


def settled_meta(info: Mapping[str, Any]) -> dict[str, Any]:
    """What comes with a label, with a ``segmentationMeta`` that MONAILabelReviewer can read again.

    Raises:
        HTTPException: 422.
    """
    if META not in info:
        return dict(info)
    meta = info[META]
    if not isinstance(meta, Mapping) or not all(isinstance(meta.get(key, ""), str) for key in META_KEYS[:-1]):
        raise HTTPException(
            422, f"'{META}' is not what MONAILabelReviewer sends; an object with the texts {', '.join(META_KEYS[:-1])} "
            "is expected. Send a review to POST /reviews/ instead."
        )  # fmt: skip
    return {**info, META: {**dict.fromkeys(META_KEYS, ""), **meta}}


def with_author(info: Mapping[str, Any], user: str | None, *, may_review_own: bool) -> dict[str, Any]:
    """What comes with a new label, with its author: whoever is logged in, or the reviewer who drew it.

    His own approval is not taken unless it may be.
    """
    settled = settled_meta(info)
    meta = settled.get(META)
    settled.pop(LOGIN, None)
    if user:
        settled[LOGIN] = user
    elif meta and not author_of(settled):
        settled["author"] = meta["approvedBy"].strip()
    author = author_of(settled)
    if meta and meta["status"] == APPROVED and is_same_person(meta["approvedBy"], author) and not may_review_own:
        settled[META] = {**meta, "status": SEGMENTED}
    return settled


def _label(image: str, tag: str, sha256: str, info: Mapping[str, Any]) -> Label:
    at = info.get("ts")
    is_time = isinstance(at, int | float) and not isinstance(at, bool)
    return Label(image, tag, sha256, author_of(info), float(at) if is_time else 0.0, info)  # type: ignore[arg-type]


def _describe(datastore: Any, label: Label, info: Mapping[str, Any]) -> None:
    """Adds to what is kept beside a label, if it is still that very one."""
    if not isinstance(datastore, StudiesDatastore):
        # Of a PACS, the file may have left the cache; the database remembers.
        with contextlib.suppress(LabelNotFoundException):
            datastore.update_label_info(label.image, label.tag, dict(info))
        return
    try:
        datastore.describe_this_label(label.image, label.tag, label.sha256, info)
    except Unknown as error:
        raise HTTPException(
            409, "This label was replaced in the meantime. Look at the new one, then review it."
        ) from error


def _sha256(path: Path) -> str | None:
    try:
        found = path.stat()
        return _hashed(str(path), found.st_ino, found.st_size, found.st_mtime_ns) if path.is_file() else None
    except OSError:
        return None


@functools.lru_cache(maxsize=100_000)
def _hashed(path: str, *state: int) -> str:
    return file_sha256(Path(path))
