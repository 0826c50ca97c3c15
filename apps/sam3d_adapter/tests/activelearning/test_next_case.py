"""What all strategies share: each served case is kept, and a share of them is drawn at random."""

from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore

from lib.activelearning.drawn import Drawn
from lib.activelearning.next_case import NextCase, Pool
from lib.host.workflow import Workflow
from lib.workflow.served import FALLBACK, RANDOM, STRATEGY, Served, read_served


class FirstByName(NextCase):
    """Chooses what chance would choose one time in many."""

    name = "first"

    def choose(self, pool: Pool) -> tuple[str, str]:
        return min(pool.images), STRATEGY


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    return Workflow(tmp_path / "learning")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(10):
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), folder / f"case_{number:02}.nii.gz")
    return folder


@pytest.fixture
def store(images: Path, workflow: Workflow) -> LocalDatastore:
    store = LocalDatastore(str(images))
    workflow.database(store).path.unlink(missing_ok=True)
    return store


def served(workflow: Workflow, store: LocalDatastore) -> list[Served]:
    with workflow.database(store).reading() as connection:
        return read_served(connection)


def test_every_served_case_is_kept_with_how_it_was_chosen(workflow: Workflow, store: LocalDatastore) -> None:
    strategy = FirstByName(workflow, "First", clock=lambda: 5.0)
    given = [strategy({"client_id": who}, store) for who in ("anna", "ben", "anna")]
    assert given == [{"id": "case_00"}, {"id": "case_01"}, {"id": "case_02"}]
    assert served(workflow, store) == [
        Served(number, f"case_{number - 1:02}", "first", STRATEGY, 5.0) for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(("share", "drawn"), [(0.0, 0), (0.5, 5), (1.0, 10)])
def test_the_random_arm_gets_its_share(workflow: Workflow, store: LocalDatastore, share: float, drawn: int) -> None:
    strategy = FirstByName(workflow, "First", random_share=share)
    for _ in range(10):
        strategy({"client_id": "anna"}, store)
    found = served(workflow, store)
    arms = Counter(one.arm for one in found)
    # Three standard deviations of a draw by a share.
    assert abs(arms[RANDOM] - drawn) <= 3 * (10 * share * (1 - share)) ** 0.5 and arms[FALLBACK] == 0
    assert len({one.image for one in found}) == 10, "all come before one comes again, whatever the arm"
    by_strategy = [one.image for one in found if one.arm == STRATEGY]
    assert by_strategy == sorted(by_strategy)


def test_the_draws_go_on_where_a_server_was_started_anew(workflow: Workflow, store: LocalDatastore) -> None:
    def arms(restarts: bool) -> list[str]:
        workflow.database(store).path.unlink(missing_ok=True)
        strategy = FirstByName(workflow, "First", random_share=0.5)
        for _ in range(8):
            strategy = FirstByName(workflow, "First", random_share=0.5) if restarts else strategy
            strategy({}, store)
        return [one.arm for one in served(workflow, store)]

    assert arms(restarts=True) == arms(restarts=False)
    assert set(arms(restarts=True)) == {RANDOM, STRATEGY}


def test_what_is_drawn_is_in_no_order_and_nobody_gets_the_same(workflow: Workflow, store: LocalDatastore) -> None:
    strategy = Drawn(workflow)
    given = [strategy({"client_id": who}, store)["id"] for _ in range(5) for who in ("anna", "ben")]  # type: ignore[index]
    assert len(set(given)) == 10 and given != sorted(given)
    assert strategy({"client_id": "carl"}, store) is None
    assert {(one.strategy, one.arm) for one in served(workflow, store)} == {("random", RANDOM)}
