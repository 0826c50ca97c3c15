"""The seam without Ray: this process, and what is said where Ray is missing."""

import sys
from functools import partial

import pytest

from lib.workers.choice import IN_PROCESS, WorkerChoice
from lib.workers.each_case import WorkersError
from tests.test_architecture import LIB


def inverse(numerator: float, case: float) -> float:
    return numerator / case


def test_a_fault_at_one_case_is_its_result() -> None:
    with IN_PROCESS.start(partial(float, 6)) as workers:
        done = dict(workers.each(inverse, iter([2, 0, 3])))
    assert done[2].result() == 3 and done[3].result() == 2
    with pytest.raises(ZeroDivisionError):
        done[0].result()


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with WorkerChoice(2).start(partial(float, 6)) as workers:
        assert list(workers.each(inverse, [])) == [], "nothing to do takes no workers"
        with pytest.raises(WorkersError, match="pip install"):
            next(iter(workers.each(inverse, [2])))


def test_a_cluster_that_does_not_answer_is_said_at_once() -> None:
    with (
        WorkerChoice(2, "127.0.0.1:1").start(partial(float, 6)) as workers,
        pytest.raises(WorkersError, match="No Ray cluster answers at 127.0.0.1:1"),
    ):
        next(iter(workers.each(inverse, [2])))


def test_a_server_never_loads_ray() -> None:
    """One file imports it, when workers are asked for."""
    users = {
        path.relative_to(LIB): path.read_text() for path in LIB.rglob("*.py") if "import ray\n" in path.read_text()
    }
    assert [str(path) for path in users] == ["workers/on_ray.py"]
    (text,) = users.values()
    assert "\nimport ray" not in text, "it would be loaded with the file"
