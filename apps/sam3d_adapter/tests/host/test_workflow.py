"""Reviews of a folder's labels: killed half-way, two servers at once, a label that is replaced meanwhile."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from fastapi import HTTPException

from lib.host.studies_datastore import StudiesDatastore
from lib.host.workflow import Workflow, with_author
from lib.workflow.reviews import Label, author_of, state_of
from tests.support.faulty_disk import REMOVALS, STEPS, Steps, in_child, kill
from tests.support.studies_site import BY, save, write_studies

WORKFLOW = Workflow(Path("nowhere"))


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A folder with a label of image_0."""
    (tmp_path / "work").mkdir()
    studies = write_studies(tmp_path / "studies")
    store = StudiesDatastore(str(studies))
    save(store.folder, tmp_path / "work", "image_0", "first")
    return studies


def the_label(studies: Path) -> tuple[Label, str]:
    """As a server finds it that starts now, with its state."""
    store = StudiesDatastore(str(studies))
    known = WORKFLOW.read(store)
    (label,) = known.labels
    meta = label.info.get("segmentationMeta", {})
    state = state_of(label, known.newest)
    assert {"approved": "accepted", "flagged": "rejected"}.get(meta.get("status"), "submitted") == state
    return label, state


def reject(studies: Path, by: str = "Dr. Poe") -> None:
    store = StudiesDatastore(str(studies))
    (label,) = WORKFLOW.read(store).labels
    WORKFLOW.review(store, label.id, "reject", by, "no tail")


@pytest.mark.slow
def test_a_kill_at_any_step_of_a_review_leaves_before_or_after(studies: Path) -> None:
    """Steps on files; those of the database have a test of their own."""
    label, _ = the_label(studies)
    found = set()
    at = 0
    while True:
        with Steps(kill, at, names=STEPS + REMOVALS).watched():
            ended = in_child(lambda: reject(studies))
        after, state = the_label(studies)
        assert after.id == label.id and after.info["label_info"] == ["first"], f"step {at}"
        found.add(state)
        store = StudiesDatastore(str(studies))
        if not os.WIFSIGNALED(ended):
            break
        if state == "rejected":
            WORKFLOW.review(store, label.id, "withdraw", "Dr. Poe", "")
        at += 1
    assert state == "rejected" and found == {"submitted", "rejected"} and at > 5


def test_a_kill_between_the_label_and_the_database_is_made_good(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def killed() -> None:
        monkeypatch.setattr("lib.host.workflow.add_review", end)
        reject(studies)

    assert os.WIFSIGNALED(in_child(killed))
    assert the_label(studies)[1] == "rejected"
    (review,) = WORKFLOW.read(StudiesDatastore(str(studies))).reviews
    assert (review.decision, review.by, review.comment) == ("reject", "Dr. Poe", "no tail")


def _reject_often(studies: Path, by: str, barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait(60)
    for _ in range(5):
        reject(studies, by)


def test_two_servers_review_at_once(studies: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    workers = [context.Process(target=_reject_often, args=(studies, by, barrier)) for by in ("Anna", "Ben")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    label, state = the_label(studies)
    assert state == "rejected"
    reviews = WORKFLOW.read(StudiesDatastore(str(studies))).reviews
    assert label.info["segmentationMeta"]["approvedBy"] == reviews[-1].by
    assert {by: sum(one.by == by for one in reviews) for by in ("Anna", "Ben")} == {"Anna": 5, "Ben": 5}


def test_a_label_that_is_replaced_at_the_last_moment_gets_no_decision_of_the_one_before(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StudiesDatastore(str(studies))
    (label,) = WORKFLOW.read(store).labels
    described = StudiesDatastore.describe_this_label

    def late(self: StudiesDatastore, *arguments: object) -> None:
        save(StudiesDatastore(str(studies)).folder, tmp_path / "work", "image_0", "second")
        described(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(StudiesDatastore, "describe_this_label", late)
    with pytest.raises(HTTPException, match="409"):
        WORKFLOW.review(store, label.id, "accept", "Dr. Poe", "")
    new, state = the_label(studies)
    assert state == "submitted" and new.id != label.id and WORKFLOW.read(store).reviews == []


def test_former_labels_are_those_whose_voxels_went(studies: Path, tmp_path: Path) -> None:
    store = StudiesDatastore(str(studies))
    (first,) = WORKFLOW.read(store).labels
    store.update_label_info("image_0", "final", {"note": "x"})
    assert WORKFLOW.former_labels(store) == []
    save(store.folder, tmp_path / "work", "image_0", "second")
    assert [one.id for one in WORKFLOW.former_labels(store, "image_0")] == [first.id]
    store.folder.delete_label("image_0", "final", BY)
    assert len(WORKFLOW.former_labels(store)) == 2 and WORKFLOW.former_labels(store, "image_1") == []
    store.folder.restore_label("image_0", "final", None, BY)
    assert WORKFLOW.read(store).labels[0].sha256 == WORKFLOW.former_labels(store)[0].sha256


def test_a_login_comes_before_the_name_that_a_viewer_sends() -> None:
    def author(info: dict[str, object], user: str | None = None) -> str:
        return author_of(with_author(info, user, may_review_own=False))

    assert author({"author": "Dr. Roe"}) == author({"client_id": "Dr. Roe"}) == "Dr. Roe"
    assert author({"author": "Dr. Roe"}, "poe") == "poe" and author({}) == ""
    assert author({"author": "Dr. Roe", "login": "poe"}) == "Dr. Roe", "nobody logs in by saying so"
