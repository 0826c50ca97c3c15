"""What decisions beside labels mean, and which label of a case counts."""

import re
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from lib.workflow.cases import Mark, best_label, case_state
from lib.workflow.reviews import (
    Label,
    Review,
    is_reviewed,
    is_same_person,
    meta_of,
    newest,
    newest_sent,
    replaced_sent,
    review_of,
    state_of,
    unknown_reviews,
    unknown_sent,
)
from tests.support.server import APP_DIR

DOCS = APP_DIR.parents[1] / "docs/workflow.md"
FINAL = Label("case_1", "final", "a" * 64, "Dr. Roe", 100.0, {})
VERSION = replace(FINAL, tag="version_1", sha256="b" * 64, author="Dr. Poe", saved_at=200.0)
DRAFT = replace(FINAL, tag="draft", sha256="c" * 64, saved_at=300.0)


def decision(label: Label, what: str, **more: Any) -> Review:
    return Review(label.id, label.image, label.tag, what, "Dr. Doe", "why", 500.0, sha256=label.sha256, **more)


@pytest.mark.parametrize(
    ("tag", "is_one"),
    [("final", True), ("version_1", True), ("version_12", True), ("version_", False), ("version_a", False),
     ("draft", False), ("original", False)],
)  # fmt: skip
def test_tags_of_labels_that_are_reviewed(tag: str, is_one: bool) -> None:
    assert is_reviewed(tag) is is_one


def test_names_are_compared_as_people_write_them_and_nobody_is_nobody() -> None:
    assert is_same_person(" Dr.  Roe", "dr. roe ") and not is_same_person("Dr. Roe", "Dr. Poe")
    assert not is_same_person("", "") and not is_same_person(" ", " ")


@pytest.mark.parametrize(
    ("decisions", "state"),
    [([], "submitted"), (["accept"], "accepted"), (["accept", "reject"], "rejected"),
     (["reject", "withdraw"], "submitted"), (["accept", "correct"], "corrected"), (["correct", "accept"], "accepted")],
)  # fmt: skip
def test_the_newest_decision_counts(decisions: list[str], state: str) -> None:
    reviews = newest([decision(FINAL, what) for what in decisions])
    assert state_of(FINAL, reviews) == state and state_of(DRAFT, reviews) == "draft"
    assert state_of(VERSION, reviews) == "submitted"


def test_the_diagram_in_the_docs_is_that_of_the_code() -> None:
    drawn = re.findall(r"^ +(\w+) --> (\w+): (\w+)", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    reached = {
        (state_of(FINAL, newest([decision(FINAL, before)])), state_of(FINAL, newest([decision(FINAL, then)])), then)
        for before, then in product(("accept", "reject", "correct", "withdraw"), repeat=2)
        if before != then
    }
    assert sorted(drawn) == sorted(reached)


def test_a_decision_holds_for_its_own_image_alone() -> None:
    stranger = replace(decision(FINAL, "correct"), image="case_2")
    assert state_of(FINAL, newest([stranger])) == "submitted"


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [("", "", FINAL), ("", "accept", VERSION), ("accept", "accept", FINAL), ("reject", "", VERSION),
     ("reject", "reject", FINAL), ("correct", "reject", VERSION), ("correct", "", VERSION)],
)  # fmt: skip
def test_which_label_counts(first: str, second: str, best: Label) -> None:
    reviews = newest(decision(label, what) for label, what in ((FINAL, first), (VERSION, second)) if what)
    assert best_label([FINAL, DRAFT, VERSION], reviews) == best


def test_states_of_a_case() -> None:
    skipped, problem = (Mark(what, "", "", 150.0) for what in ("skipped", "problem"))
    rejected = newest([decision(FINAL, "reject")])

    def state(*labels: Label, mark: Mark | None = None, reviews: Any = None, elsewhere: bool = False) -> str:
        return case_state(labels, reviews or {}, mark, is_labelled_elsewhere=elsewhere)[0]

    assert state() == "new" and state(elsewhere=True) == "submitted"
    assert state(FINAL) == "submitted" and state(FINAL, DRAFT) == "draft"
    assert state(FINAL, replace(DRAFT, saved_at=50.0)) == state(FINAL, replace(DRAFT, saved_at=100.0)) == "submitted"
    assert state(FINAL, reviews=rejected) == "rejected" and state(FINAL, DRAFT, reviews=rejected) == "draft"
    assert state(FINAL, VERSION, reviews=rejected) == "submitted"
    assert state(mark=skipped) == "skipped" and state(FINAL, mark=skipped) == "submitted"
    assert state(FINAL, mark=skipped, reviews=rejected) == "skipped", "skipped after it was saved"
    later = replace(FINAL, saved_at=200.0)
    assert state(later, mark=skipped, reviews=rejected) == "rejected"
    assert state(FINAL, DRAFT, mark=problem) == "problem"


def test_of_a_pacs_the_label_that_was_sent_last_counts_also_one_that_is_not_here() -> None:
    def sent(at: float, sha256: str, image: str = "case_1") -> Label:
        return replace(FINAL, image=image, sha256=sha256 * 64, saved_at=at, info={"SeriesInstanceUID": "1.2"})

    here, later, lost = sent(100, "a"), sent(200, "b"), sent(50, "c", "case_2")
    assert unknown_sent([here, DRAFT, FINAL], []) == [here], "a draft, and a label of a folder, are sent nowhere"
    assert unknown_sent([here], [here]) == unknown_sent([here], [later]) == []
    assert unknown_sent([later], [here]) == [later]
    assert newest_sent([DRAFT, here], [here, lost]) == [DRAFT, here, lost]
    assert newest_sent([DRAFT, here], [later]) == [DRAFT, later] and newest_sent([later], [here]) == [later]
    assert newest_sent([FINAL, VERSION], []) == [FINAL, VERSION]
    assert newest_sent([], [here, lost, later]) == [later, lost]
    assert replaced_sent([here, lost, later]) == [replace(here, is_current=False)]


def test_what_the_reviewer_extension_keeps_is_read_as_it_was_written() -> None:
    for what, status in (("accept", "approved"), ("reject", "flagged"), ("withdraw", "segmented")):
        meta = meta_of(decision(FINAL, what), {"level": "hard", "status": "x"})
        assert meta == {"status": status, "approvedBy": "Dr. Doe", "level": "hard", "comment": "why", "editTime": 500}
        assert review_of(replace(FINAL, info={"segmentationMeta": meta})) == decision(FINAL, what)


@pytest.mark.parametrize(
    "meta", [None, 5, [], "approved", {"status": 5, "editTime": float("inf"), "approvedBy": ["x"], "comment": {}}]
)
def test_whatever_lies_beside_a_label_is_read(meta: object) -> None:
    found = review_of(replace(FINAL, info={"segmentationMeta": meta}))
    assert found is None or found.decision == "withdraw"


def test_decisions_beside_labels_are_taken_over_once() -> None:
    def beside(status: str, by: str = "Dr. Doe", comment: str = "why") -> Label:
        meta = {"status": status, "approvedBy": by, "comment": comment, "editTime": 500}
        return replace(FINAL, info={"segmentationMeta": meta})

    def found(label: Label, *known: Review, own: bool = False) -> list[str]:
        return [one.decision for one in unknown_reviews([label], known, may_review_own=own)]

    assert found(FINAL) == found(beside("segmented")) == [] and found(beside("approved")) == ["accept"]
    assert found(beside("approved"), decision(FINAL, "accept")) == []
    # A correction says nothing beside the label that it corrects.
    assert found(beside("approved"), decision(FINAL, "accept"), decision(FINAL, "correct", new_label="x")) == []
    assert found(beside("flagged"), decision(FINAL, "accept")) == ["reject"]
    assert found(beside("", comment=""), decision(FINAL, "accept")) == ["withdraw"]
    assert found(beside("approved", "dr. roe")) == [] and found(beside("approved", "Dr. Roe"), own=True) == ["accept"]
    assert found(replace(beside("approved"), tag="draft")) == []
    assert found(replace(beside("approved"), is_current=False)) == []


def test_a_parent_is_corrected_once() -> None:
    child = replace(VERSION, info={"parent": FINAL.id})
    (found,) = unknown_reviews([FINAL, child], [], may_review_own=False)
    assert (found.label, found.decision, found.by, found.new_label) == (FINAL.id, "correct", "Dr. Poe", child.id)
    assert unknown_reviews([FINAL, child], [found], may_review_own=False) == []
    for odd in (child.id, 5, None, ["x"], "x" * 32, FINAL.id * 2):
        itself = replace(VERSION, info={"parent": odd})
        assert unknown_reviews([itself], [], may_review_own=False) == []
