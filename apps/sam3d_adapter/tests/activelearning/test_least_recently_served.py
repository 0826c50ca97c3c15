"""Cases come in lease, each to one annotator at a time."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore

from lib.activelearning.drawn import Drawn
from lib.activelearning.least_recently_served import LeastRecentlyServed
from lib.activelearning.next_case import NextCase
from lib.host.workflow import Workflow
from lib.workflow.cases import Leases, Mark, set_mark
from lib.workflow.reviews import Review, add_review

MINUTE = 60.0


class Clock:
    """Seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


Ask = Callable[..., str | None]


def write_images(folder: Path, n: int) -> LocalDatastore:
    """A data store of MONAI Label's with this many images."""
    folder.mkdir(exist_ok=True)
    for number in range(n):
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), folder / f"case_{number}.nii.gz")
    return LocalDatastore(str(folder))


def asking(strategy: NextCase, store: LocalDatastore) -> Ask:
    """Ask for the next case as a client does."""

    def ask(client_id: str | None = None) -> str | None:
        answer = strategy({"strategy": "random", "client_id": client_id}, store)
        return None if answer is None else answer["id"]

    return ask


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    return Workflow(tmp_path / "learning")


def forget(store: LocalDatastore) -> None:
    """Removes the database beside the labels."""
    Workflow(Path()).database(store).path.unlink(missing_ok=True)


def submit(store: LocalDatastore, image: str, tmp_path: Path, tag: str = "final") -> None:
    label = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4)), label)
    store.save_label(image, str(label), tag, {})


def test_all_come_before_one_comes_again(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    ask = asking(LeastRecentlyServed(workflow, clock=clock), write_images(tmp_path / "a", 5))
    first = [ask("anna") for _ in range(5)]
    assert sorted(map(str, first)) == [f"case_{n}" for n in range(5)]
    clock.now += 31 * MINUTE
    assert [ask("anna") for _ in range(5)] == first


def test_two_annotators_never_have_the_same_case(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    ask = asking(LeastRecentlyServed(workflow, clock=clock), write_images(tmp_path / "a", 6))
    given = [ask(who) for _ in range(3) for who in ("anna", "ben")]
    assert len(set(given)) == 6
    # Each now goes round among his own.
    assert {ask("anna") for _ in range(6)} == set(given[0::2]) and {ask("ben") for _ in range(6)} == set(given[1::2])
    assert ask("carl") is None


def test_next_is_another_unless_there_is_none(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    ask = asking(LeastRecentlyServed(workflow, clock=clock), write_images(tmp_path / "a", 2))
    one, other = ask("anna"), ask("anna")
    assert one != other and [ask("anna") for _ in range(4)] == [one, other] * 2
    clock.now += 24 * 60 * MINUTE
    assert ask("anna") == one


def test_what_was_just_shown_does_not_come_back_though_it_is_the_oldest(
    tmp_path: Path, workflow: Workflow, clock: Clock
) -> None:
    ask = asking(LeastRecentlyServed(workflow, clock=clock), write_images(tmp_path / "a", 2))
    one, other = ask("anna"), ask("ben")
    clock.now += 41 * MINUTE  # both are free, and Anna's was shown first
    assert ask("anna") == other and ask("ben") == one


def test_one_image(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    store = write_images(tmp_path / "a", 1)
    ask = asking(LeastRecentlyServed(workflow, clock=clock), store)
    assert [ask("anna"), ask("anna"), ask("ben")] == ["case_0", "case_0", None]
    clock.now += 29 * MINUTE
    assert ask("ben") is None and ask("anna") == "case_0"
    clock.now += 29 * MINUTE  # asked for again meanwhile, so it is still hers
    assert ask("ben") is None
    clock.now += MINUTE
    assert ask("ben") == "case_0"


def test_without_names_each_request_gets_another(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    ask = asking(LeastRecentlyServed(workflow, clock=clock), write_images(tmp_path / "a", 3))
    named = ask("anna")
    assert len({named, ask(), ask()}) == 3
    assert ask() not in (named, None)


def test_the_one_just_left_stays_reserved_and_earlier_ones_run_out(
    tmp_path: Path, workflow: Workflow, clock: Clock
) -> None:
    ask = asking(LeastRecentlyServed(workflow, clock=clock), write_images(tmp_path / "a", 3))
    first, second = ask("anna"), ask("anna")
    clock.now += 20 * MINUTE
    third = ask("anna")  # renews the second
    clock.now += 15 * MINUTE
    assert ask("ben") == first and ask("carl") is None
    clock.now += 15 * MINUTE
    assert {ask("carl"), ask("dora")} == {second, third}


@pytest.mark.parametrize("tag", ["final", "original"])
def test_a_final_label_frees_the_case_at_once(tmp_path: Path, workflow: Workflow, clock: Clock, tag: str) -> None:
    store = write_images(tmp_path / "a", 2)
    ask = asking(LeastRecentlyServed(workflow, clock=clock), store)
    one = str(ask("anna"))
    submit(store, one, tmp_path, tag)
    other = ask("ben")
    assert other != one
    if tag == "original":
        assert ask("carl") is None  # a draft frees nothing
        return
    assert ask("anna") is None  # her case is labelled, and Ben has the other
    store.remove_label(one, tag)
    assert ask("carl") == one


def test_all_labelled(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    store = write_images(tmp_path / "a", 1)
    submit(store, "case_0", tmp_path)
    ask = asking(LeastRecentlyServed(workflow, clock=clock), store)
    assert ask("anna") is None
    store.remove_label("case_0", "final")
    assert ask("anna") == "case_0"
    submit(store, "case_0", tmp_path)
    assert ask("ben") is None
    store.remove_label("case_0", "final")
    assert ask("ben") == "case_0"
    assert asking(LeastRecentlyServed(workflow, clock=clock), write_images(tmp_path / "none", 0))("anna") is None


def test_ties_are_random_but_the_same_in_each_process(tmp_path: Path, clock: Clock) -> None:
    store = write_images(tmp_path / "a", 8)

    def order(seed: int) -> list[str | None]:
        forget(store)
        ask = asking(LeastRecentlyServed(Workflow(tmp_path), seed=seed, clock=clock), store)
        return [ask("anna") for _ in range(8)]

    assert order(1) == order(1) != order(2)


def test_without_locks(tmp_path: Path, clock: Clock) -> None:
    workflow = Workflow(tmp_path, lock_s=0)
    ask = asking(LeastRecentlyServed(workflow, clock=clock), write_images(tmp_path / "a", 1))
    assert ask("anna") == ask("ben") == "case_0"


def test_a_clock_that_was_set_back_holds_nothing_for_ever(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    ask = asking(LeastRecentlyServed(workflow, clock=clock), write_images(tmp_path / "a", 1))
    ask("anna")
    clock.now -= 365 * 24 * 60 * MINUTE
    assert ask("ben") == "case_0"


def test_a_damaged_database_is_begun_anew(
    tmp_path: Path, workflow: Workflow, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = write_images(tmp_path / "a", 2)
    path = workflow.database(store).path
    path.parent.mkdir()
    path.write_bytes(b"{" * 5000)
    ask = asking(LeastRecentlyServed(workflow, clock=clock), store)
    assert ask("anna") != ask("ben") and caplog.text.count("was damaged") == 1


def test_where_nothing_can_be_written_cases_come_all_the_same(
    tmp_path: Path, workflow: Workflow, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = write_images(tmp_path / "a", 1)
    workflow.database(store).path.parent.write_text("a file in the way")
    ask = asking(LeastRecentlyServed(workflow, clock=clock), store)
    assert ask("anna") == "case_0" and "cannot be remembered" in caplog.text


def test_the_database_names_nobody(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    store = write_images(tmp_path / "a", 1)
    asking(LeastRecentlyServed(workflow, clock=clock), store)("Dr. Anna Settembrini")
    assert b"nna" not in workflow.database(store).path.read_bytes()


def review(workflow: Workflow, store: LocalDatastore, image: str, decision: str) -> None:
    (label,) = workflow.read(store, image).labels
    with workflow.database(store).changing() as connection:
        add_review(connection, Review(label.id, image, "final", decision, "Dr. Roe", "why", 1e9))


def test_a_rejected_case_comes_again(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    store = write_images(tmp_path / "a", 2)
    for image in ("case_0", "case_1"):
        submit(store, image, tmp_path)
    ask = asking(LeastRecentlyServed(workflow, clock=clock), store)
    assert ask("anna") is None
    review(workflow, store, "case_0", "accept")
    review(workflow, store, "case_1", "reject")
    assert ask("anna") == "case_1"
    review(workflow, store, "case_1", "withdraw")
    assert ask("anna") is None


def test_a_skipped_case_and_one_with_a_problem_do_not_come(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    store = write_images(tmp_path / "a", 3)
    with workflow.database(store).changing() as connection:
        set_mark(connection, "case_0", Mark("skipped", "Anna", "", 1.0))
        set_mark(connection, "case_2", Mark("problem", "Anna", "no contrast", 1.0))
    ask = asking(LeastRecentlyServed(workflow, clock=clock), store)
    assert {ask("anna") for _ in range(3)} == {"case_1"}
    with workflow.database(store).changing() as connection:
        set_mark(connection, "case_0", None)
    assert ask("anna") == "case_0"


def test_ids_of_series(tmp_path: Path, workflow: Workflow, clock: Clock) -> None:
    uids = [f"1.2.826.0.1.3680043.8.498.{n}" for n in range(3)]

    class Series(LocalDatastore):
        """Lists as the DICOMweb one does: from a set, in any order."""

        def __init__(self) -> None:
            super().__init__(str(tmp_path / "a"))
            self.images = set(uids)

        def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
            return list(self.images)

        def list_images(self) -> list[str]:
            return list(self.images)

    ask = asking(LeastRecentlyServed(workflow, clock=clock), Series())
    assert {ask(who) for who in "abc"} == set(uids) and ask("d") is None


def _work(folder: Path, who: str, rounds: int, results: "multiprocessing.Queue[list[str | None]]") -> None:
    ask = asking(LeastRecentlyServed(Workflow(folder), seed=0), LocalDatastore(str(folder)))
    results.put([ask(f"{who}{number}") for number in range(rounds)])


def test_two_processes_share_the_database(tmp_path: Path, workflow: Workflow) -> None:
    store = write_images(tmp_path / "a", 40)
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[list[str | None]] = context.Queue()
    workers = [context.Process(target=_work, args=(tmp_path / "a", who, 20, results)) for who in "xy"]
    for worker in workers:
        worker.start()
    given = results.get(timeout=90) + results.get(timeout=90)
    for worker in workers:
        worker.join(30)
    assert None not in given and len(set(given)) == 40
    with workflow.database(store).reading() as connection:
        leases = Leases(connection).last
    assert sorted(lease.number for lease in leases.values()) == list(range(1, 41))


def test_of_a_pool_that_nobody_has_seen_it_gives_what_chance_gives(tmp_path: Path, workflow: Workflow) -> None:
    given = []
    for kind in (LeastRecentlyServed, Drawn):
        ask = asking(kind(workflow), write_images(tmp_path / kind.name, 8))
        given.append([ask("anna") for _ in range(8)])
    assert given[0] == given[1] and len(set(given[0])) == 8
