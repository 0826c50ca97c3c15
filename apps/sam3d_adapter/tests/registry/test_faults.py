"""A full disk and a killed process at every single step of every change: the registry is whole, before or after."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.registry.archive import export_version
from lib.registry.version import Facts
from lib.registry.versions import Versions
from tests.support.faulty_disk import Steps, in_child, kill, no_space

Change = Callable[[Versions], Any]


@pytest.fixture
def site(versions: Versions, ids: list[str], write_weights) -> Path:
    """A registry in which something was published, refused and held; and weights beside it."""
    versions.publish(ids[0], "me", is_best=True)
    versions.publish(ids[1], "me")
    versions.refuse(ids[2], ["no"])
    write_weights(7)
    folder = versions.folder.parent.parent
    # Of an earlier release, for a preset of its own.
    shutil.copy(write_weights(8), folder / "old.safetensors")
    (folder / "old.json").write_text('{"format": 1, "started_by": "somebody"}')
    return folder


CHANGES: dict[str, Change] = {
    "add": lambda v: v.add(v.folder.parents[2] / "weights_7.safetensors", Facts("me")),
    "add_with_files": lambda v: v.add(
        v.folder.parents[2] / "weights_7.safetensors",
        Facts("me", files={"curve.json": v.folder.parents[2] / "weights_0.safetensors"}),
    ),
    "publish": lambda v: v.publish(v.ids()[3], "me", is_best=True),
    "publish_shipped": lambda v: v.publish("shipped", "me"),
    "roll_back": lambda v: v.roll_back("me"),
    "refuse": lambda v: v.refuse(v.ids()[3], ["no"]),
    "prune": lambda v: v.prune(1),
    "pin": lambda v: v.pin("run", v.ids()[3]),
}


def handle(site: Path, preset: str = "ct") -> Versions:
    return Versions(site / preset / "tiny", preset, "tiny", "sam3d_adapter", lock_timeout_s=1)


def seen(site: Path, preset: str = "ct") -> tuple[Any, ...]:
    """What a reader finds, all of it checked: nothing of it may be torn, whenever he looks."""
    versions = handle(site, preset)
    assert versions.problems() == []
    state, ids = versions.state(), versions.ids()
    for name in ids:
        versions.verify(name)
    assert state.served == "shipped" or state.served in ids
    assert state.best is None or state.best in ids
    history = versions.history()
    assert [past.seq for past in history] == list(range(1, len(history) + 1))
    assert (history[-1] if history else state) == state
    events = [(past.event.action, past.event.version) for past in history if past.event]
    return state.served, state.best, state.rollback_stack, tuple(ids), tuple(events), tuple(versions.pins().items())


def left_behind(site: Path) -> list[str]:
    return [str(path) for path in site.rglob("*") if path.name.startswith(".") or path.name.endswith(".partial")]


def at_every_step(
    site: Path, tmp_path: Path, change: Change, preset: str = "ct"
) -> tuple[tuple[Any, ...], tuple[Any, ...], list[Path]]:
    """What is seen before and after, and a copy of the site for each step of the change."""
    before = seen(site, preset)
    # One level down, where the change finds the weights beside the copy.
    done = tmp_path / "done" / "learning"
    shutil.copytree(site, done)
    for weights in tmp_path.glob("weights_*"):
        shutil.copy(weights, done.parent)
    with Steps().watched() as steps:
        change(handle(done, preset))
    after = seen(done, preset)
    assert steps.count >= 4
    copies = []
    for step in range(steps.count):
        copies.append(tmp_path / f"step_{step}" / "learning")
        shutil.copytree(site, copies[-1])
        for weights in tmp_path.glob("weights_*"):
            shutil.copy(weights, copies[-1].parent)
    return before, after, copies


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("and_later", [False, True], ids=["once", "from_then_on"])
def test_a_full_disk_at_any_step(site: Path, tmp_path: Path, name: str, and_later: bool) -> None:
    change = CHANGES[name]
    before, after, copies = at_every_step(site, tmp_path, change)
    refused = 0
    for step, copy in enumerate(copies):
        failed = False
        with Steps(no_space, at=step, and_later=and_later).watched():
            try:
                change(handle(copy))
            except OSError:
                failed = True
        refused += failed
        now = seen(copy)
        # Several versions go one by one.
        if name != "prune":
            assert now == (before if failed else after), step
        else:
            assert now[0] == before[0] and set(after[3]) <= set(now[3]) <= set(before[3]), step
        if failed:
            change(handle(copy))
            assert seen(copy) == after, step
        handle(copy).prepare()
        assert seen(copy) == after and left_behind(copy) == [], step
    assert refused >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_killed_at_any_step(site: Path, tmp_path: Path, name: str) -> None:
    change = CHANGES[name]
    before, after, copies = at_every_step(site, tmp_path, change)
    outcomes = set()
    for step, copy in enumerate(copies):

        def die(copy: Path = copy, step: int = step) -> None:
            with Steps(kill, at=step).watched():
                change(handle(copy))

        assert os.WIFSIGNALED(in_child(die)), step
        now = seen(copy)  # at once, before anybody tidies up
        if name != "prune":
            assert now in (before, after), step
        else:
            assert now[0] == before[0] and set(after[3]) <= set(now[3]) <= set(before[3]), step
        outcomes.add(now == after)
        handle(copy).prepare()
        assert left_behind(copy) == [], step
        if seen(copy) != after:
            change(handle(copy))
            assert seen(copy) == after, step
    assert False in outcomes


@pytest.mark.slow
def test_taking_over_an_earlier_release_goes_on_where_it_stopped(site: Path, tmp_path: Path) -> None:
    _, after, copies = at_every_step(site, tmp_path, Versions.prepare, "old")
    assert after[0] == after[3][0] and len(after[3]) == 1
    for step, copy in enumerate(copies):

        def die(copy: Path = copy, step: int = step) -> None:
            with Steps(kill, at=step).watched():
                handle(copy, "old").prepare()

        assert os.WIFSIGNALED(in_child(die)), step
        assert seen(copy, "old")[0] in ("shipped", after[0])
        for _ in range(2):
            handle(copy, "old").prepare()
            assert seen(copy, "old") == after and left_behind(copy) == [], step
    for step, copy in enumerate(copies):
        shutil.rmtree(copy)
        shutil.copytree(site, copy)
        with Steps(no_space, at=step, and_later=True).watched(), contextlib.suppress(OSError):
            handle(copy, "old").prepare()
        seen(copy, "old")
        handle(copy, "old").prepare()
        assert seen(copy, "old") == after and left_behind(copy) == [], step


def test_an_export_is_whole_or_the_one_before(site: Path, tmp_path: Path) -> None:
    versions, target = handle(site), tmp_path / "out" / "version.zip"
    target.parent.mkdir()
    target.write_bytes(b"before")
    with Steps().watched() as steps:
        export_version(versions, versions.ids()[0], target)
    for step in range(steps.count):
        target.write_bytes(b"before")
        with Steps(no_space, at=step).watched(), contextlib.suppress(OSError):
            export_version(versions, versions.ids()[0], target)
        assert target.read_bytes() == b"before" or target.stat().st_size > 1000
        assert list(target.parent.iterdir()) == [target]
