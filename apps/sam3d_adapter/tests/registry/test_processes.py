"""Several processes on one folder: publishing, rolling back, adding and pruning at once, killed at any moment."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.registry.errors import UnknownVersion
from lib.registry.versions import Versions
from tests.registry.test_faults import left_behind

APP = Path(__file__).parents[2]
WRITER = """
import random, sys
from pathlib import Path
sys.path.insert(0, {app!r})
from lib.registry.errors import RegistryError
from lib.registry.registry import Registry
from lib.registry.version import Facts
versions = Registry(Path({folder!r})).of("ct", "tiny")
weights = sorted(Path({weights!r}).glob("weights_*"))
draw = random.Random({seed})
print("ready", flush=True)
for _ in range({rounds}):
    ids = versions.ids()
    act = draw.choice({acts!r})
    try:
        if act == "publish":
            versions.publish(draw.choice([*ids, "shipped"]), "writer", is_best=draw.random() < 0.3)
        elif act == "roll_back":
            versions.roll_back("writer")
        elif act == "add":
            versions.add(draw.choice(weights), Facts("writer"))
        elif act == "prune":
            versions.prune(3)
    except RegistryError:
        pass
print("done", flush=True)
"""


def writer(versions: Versions, weights: Path, seed: int, acts: tuple[str, ...], rounds: int) -> subprocess.Popen[str]:
    code = WRITER.format(
        app=str(APP), folder=str(versions.folder.parents[1]), weights=str(weights), seed=seed, acts=acts, rounds=rounds
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def fresh(versions: Versions) -> Versions:
    return Versions(versions.folder, "ct", "tiny", versions.family)


def check(versions: Versions) -> None:
    """All that is there is whole."""
    versions = fresh(versions)
    assert versions.problems() == []
    for name in versions.ids():
        versions.verify(name)
    served, best = versions.served(), versions.best()
    assert served is None or versions.verify(served.id)
    assert best is None or versions.verify(best.id)


def test_a_reader_sees_whole_versions_while_two_processes_write(
    versions: Versions, ids: list[str], tmp_path: Path
) -> None:
    writers = [writer(versions, tmp_path, seed, ("publish", "roll_back", "refuse"), 60) for seed in (1, 2)]
    held, reads, seen = fresh(versions), 0, set()
    while any(process.poll() is None for process in writers):
        # One that keeps what it has read, as a server does, and one that has just started.
        for reader in (held, fresh(versions)):
            served = reader.served()
            if served is not None:
                assert reader.verify(served.id) == served
            seen.add(served.id if served else "shipped")
        reads += 1
    assert [process.communicate()[0].split()[-1] for process in writers] == ["done", "done"]
    assert len(seen) > 2 and reads > 20
    history = fresh(versions).history()
    assert [state.seq for state in history] == list(range(1, len(history) + 1))
    assert held.state() == history[-1]
    check(versions)


def hammer(versions: Versions, weights: Path, seconds: float, seed: int) -> int:
    """Kills a process that changes everything, again and again; how often."""
    draw, kills, end = random.Random(seed), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        process = writer(versions, weights, draw.randrange(10**6), ("publish", "roll_back", "add", "prune"), 10**6)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for _ in range(3):
            time.sleep(draw.uniform(0, 0.05))
            try:
                check(versions)
            except UnknownVersion as error:
                assert "removed by pruning" in str(error)  # between the list and the look
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kills += 1
        check(versions)
    return kills


def finish(versions: Versions) -> None:
    fresh(versions).prepare()
    assert left_behind(versions.folder) == []
    check(versions)
    history = fresh(versions).history()
    assert [state.seq for state in history] == list(range(1, len(history) + 1))


def test_killed_again_and_again(versions: Versions, ids: list[str], tmp_path: Path) -> None:
    assert hammer(versions, tmp_path, 2.0, 1) >= 2
    finish(versions)


@pytest.mark.slow
def test_killed_for_a_minute(versions: Versions, ids: list[str], tmp_path: Path) -> None:
    assert hammer(versions, tmp_path, 60.0, 2) >= 50
    finish(versions)
