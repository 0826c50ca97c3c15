"""Rounds that are killed (SIGKILL) at every kind of moment: what is served is whole each time, and the round is gone on
with to the same end."""

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lib.learning import candidate, fine_tune
from lib.registry.version import SHIPPED
from lib.trainers import train_task
from lib.training import train as training
from tests.support.hospital import Hospital

pytestmark = pytest.mark.slow

KINDS = ("epoch", "checkpoint", "gate", "swap", "prune")
KILLS_OF_A_KIND = 10


def kind_of(path: str) -> str | None:
    """What is being done to a file, by its name."""
    name = Path(path).name
    if "_state" in name:
        return "checkpoint"
    if "measured" in path or name.startswith("cases.jsonl"):
        return "gate"
    if name.startswith(("served.json", "history.jsonl")):
        return "swap"
    return None


class Killer:
    """Ends the process at the n-th event of a kind; an event is a call of the operating system, or a step of training.

    Args:
        kind: one of ``KINDS``.
        number: which of its events.
    """

    def __init__(self, kind: str, number: int) -> None:
        self._kind, self._left, self._pruning = kind, number, False

    def __call__(self, kind: str | None) -> None:
        kind = "prune" if self._pruning and kind != "epoch" else kind
        if kind == self._kind:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self, versions_class: type) -> None:
        """Puts itself around what writes, for the rest of the process."""
        for name in ("replace", "rename", "unlink", "fsync", "rmdir"):
            setattr(os, name, self._around(getattr(os, name)))
        real_average, real_prune = training.average_gradients, versions_class.prune

        def average(parameters: object) -> None:
            self("epoch")
            real_average(parameters)

        def prune(versions: object, *arguments: object, **more: object) -> object:
            self._pruning = True
            try:
                return real_prune(versions, *arguments, **more)
            finally:
                self._pruning = False

        training.average_gradients = average
        versions_class.prune = prune

    def _around(self, call: Callable) -> Callable:
        def called(*arguments: object, **more: object) -> object:
            first = arguments[0]
            path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else os.fspath(first)
            self(kind_of(str(path)) or ("other" if not self._pruning else None))
            return call(*arguments, **more)

        return called


def in_a_process(work: Callable[[], None]) -> int:
    """The exit status of a child that does some work; negative for a signal."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)


def round_of(folder: Path, seed: int, killer: Killer | None) -> None:
    """Trains, has a person publish whatever came of it, and removes what is older: every stage there is."""
    torch.set_num_threads(1)
    hospital = Hospital(folder)
    if killer is not None:
        killer.install(type(hospital.versions))
    hospital.versions.prepare()
    hospital.train(seed=seed)
    newest = hospital.versions.versions()[-1]
    hospital.versions.publish(newest.id, "Dr. Roe")
    hospital.versions.prune(0)


def require_whole(folder: Path) -> None:
    """What is served is a version whose weights are those it was added with, or the shipped ones."""
    hospital = Hospital(folder)
    state = hospital.versions.state()
    for name in {state.served, state.best} - {SHIPPED, None}:
        hospital.versions.verify(name)
    for version in hospital.versions.versions():
        hospital.versions.verify(version.id)
    assert hospital.versions.problems() == {} or not hospital.versions.problems()


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(candidate, "STEPS_PER_EPOCH", 2)
    monkeypatch.setattr(candidate, "VALIDATION_BATCHES", 1)
    monkeypatch.setattr(candidate, "WORKERS", 0)
    monkeypatch.setattr(fine_tune, "KEPT_VERSIONS", 1)
    monkeypatch.setattr(train_task, "lower_priority", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})


@pytest.mark.timeout(600)
def test_fifty_kills(tmp_path, small):
    Hospital(tmp_path).submit(4)
    rng = random.Random(5)
    deaths: Counter[str] = Counter()
    rounds, began = 0, time.monotonic()
    while min(deaths[kind] for kind in KINDS) < KILLS_OF_A_KIND:
        kind = min(KINDS, key=lambda kind: deaths[kind])
        killer = Killer(kind, rng.randint(1, 2 if kind == "epoch" else 6))
        status = in_a_process(lambda killer=killer, seed=rounds: round_of(tmp_path, seed, killer))
        assert status in (0, -signal.SIGKILL), "the round failed instead of being killed"
        require_whole(tmp_path)
        deaths[kind] += bool(status)
        rounds += not status
        assert time.monotonic() - began < 560, f"only {dict(deaths)} kills in time"
    assert sum(deaths.values()) >= 50
    assert in_a_process(lambda: round_of(tmp_path, rounds, None)) == 0
    require_whole(tmp_path)
    assert Hospital(tmp_path).versions.served() is not None
    left = [path for path in (tmp_path / "learning").rglob("*") if path.name.endswith((".partial", ".part"))]
    assert left == []


@pytest.mark.timeout(600)
def test_what_was_killed_ends_in_the_same_weights(tmp_path, small):
    """Nine times in training, at checkpoints and while it was measured; then as if nothing had happened."""

    def train(folder: Path, killer: Killer | None) -> None:
        torch.set_num_threads(1)
        hospital = Hospital(folder)
        if killer is not None:
            killer.install(type(hospital.versions))
        hospital.train(max_epochs=3)

    hurt, calm = tmp_path / "hurt", tmp_path / "calm"
    hospital = Hospital(hurt)
    hospital.submit(4)
    hospital.task().training_data(hospital.store)  # the split is drawn here, with a key of its own
    shutil.copytree(hurt, calm)
    assert in_a_process(lambda: train(calm, None)) == 0
    for number, kind in enumerate(["epoch", "checkpoint", "gate"] * 3):
        # Later and later, or it would never get anywhere.
        killer = Killer(kind, {"epoch": 3, "checkpoint": 2, "gate": 2}[kind] + number // 3)
        status = in_a_process(lambda killer=killer: train(hurt, killer))
        assert status in (0, -signal.SIGKILL)
        if not status:
            break
    else:
        assert in_a_process(lambda: train(hurt, None)) == 0
    assert number > 2, "it was hardly killed"
    (one,), (other,) = (Hospital(folder).versions.versions() for folder in (hurt, calm))
    assert one.sha256 == other.sha256
