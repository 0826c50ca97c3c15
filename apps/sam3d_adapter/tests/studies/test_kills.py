"""A killed process and a full disk at every single step of every change: before or after, never between."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.studies.folder import StudiesFolder
from tests.support.faulty_disk import REMOVALS, STEPS, Steps, in_child, kill, no_space
from tests.support.studies_site import BY, left_behind, save, seen, write, write_studies

Change = Callable[[StudiesFolder, Path], object]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder in which a label was submitted, replaced, deleted; ``work`` beside it takes what is sent."""
    (tmp_path / "site/work").mkdir(parents=True)
    work = tmp_path / "site/work"
    folder = StudiesFolder(write_studies(tmp_path / "site/studies"))
    folder.open()
    for text in ("first", "second"):
        save(folder, work, "image_0", text)
    save(folder, work, "image_1", "deleted")
    folder.delete_label("image_1", "final", BY)
    return tmp_path / "site"


CHANGES: dict[str, Change] = {
    "submit": lambda folder, work: save(folder, work, "image_2", "third"),
    "overwrite": lambda folder, work: save(folder, work, "image_0", "third"),
    "overwrite in another format": lambda folder, work: save(folder, work, "image_0", "third", ".nrrd"),
    "delete": lambda folder, _: folder.delete_label("image_0", "final", BY),
    "restore": lambda folder, _: folder.restore_label("image_0", "final", None, BY),
    "restore what was deleted": lambda folder, _: folder.restore_label("image_1", "final", None, BY),
    "add an image": lambda folder, work: folder.add_image("new", ".nii", write(work / "new.nii", "new"), {"by": "me"}),
    "delete an image": lambda folder, _: folder.delete_image("image_2", BY),
    "show the next image": lambda folder, _: folder.describe_image("image_0", {"strategy": {"random": {"ts": 1}}}),
    "mend a torn index": lambda folder, _: torn(folder).refresh(),
}


def torn(folder: StudiesFolder) -> StudiesFolder:
    (folder.path / "datastore_v2.json").write_bytes((folder.path / "datastore_v2.json").read_bytes()[:200])
    return folder


def carry_out(site: Path, change: Change) -> None:
    folder = StudiesFolder(site / "studies")
    folder.open()
    change(folder, site / "work")


POINTS = STEPS + REMOVALS
COMING = re.compile(r"\.[0-9a-f]{16}\.partial")
FEW = 5
"""Steps between two kills of the fast tests; the slow ones do it at each."""


@pytest.mark.parametrize(
    ("name", "every"),
    [(name, FEW) for name in ("overwrite in another format", "add an image", "mend a torn index")]
    + [pytest.param(name, 1, marks=[pytest.mark.slow, pytest.mark.timeout(600)]) for name in CHANGES],
)
def test_a_kill_at_any_step_leaves_before_or_after(site: Path, tmp_path: Path, name: str, every: int) -> None:
    change, before = CHANGES[name], seen(site / "studies")
    done = Path(shutil.copytree(site, tmp_path / "done"))
    with Steps(names=POINTS).watched() as counted:
        carry_out(done, change)
    after = seen(done / "studies")
    assert counted.count > FEW
    for at in range(0, counted.count, every):
        here = Path(shutil.copytree(site, tmp_path / f"killed_{at}"))

        def killed(here: Path = here, at: int = at) -> None:
            with Steps(kill, at, names=POINTS).watched():
                carry_out(here, change)

        assert os.WIFSIGNALED(in_child(killed)), f"step {at} was not reached"
        assert seen(here / "studies") in (before, after), f"step {at}"
        # An image that is copied has no lock; what is left of it goes an hour later.
        assert [path for path in left_behind(here / "studies") if not COMING.fullmatch(path)] == []
        carry_out(here, lambda folder, work: save(folder, work, "image_1", "a good one"))
        shutil.rmtree(here)
    print(f"{name}: {len(range(0, counted.count, every))} kills")


@pytest.mark.parametrize(
    ("name", "every"),
    [(name, FEW) for name in ("overwrite", "show the next image")]
    + [pytest.param(name, 1, marks=pytest.mark.slow) for name in CHANGES if "mend" not in name],
)
def test_a_full_disk_at_any_step_changes_nothing(site: Path, tmp_path: Path, name: str, every: int) -> None:
    change, before = CHANGES[name], seen(site / "studies")
    done = Path(shutil.copytree(site, tmp_path / "done"))
    with Steps().watched() as counted:
        carry_out(done, change)
    after = seen(done / "studies")
    for at in range(0, counted.count, every):
        here = Path(shutil.copytree(site, tmp_path / f"full_{at}"))
        # Nothing can be written any more from this step on; names can be changed without room.
        with Steps(full, at, and_later=True).watched(), contextlib.suppress(OSError):
            carry_out(here, change)
        found = seen(here / "studies")
        assert found in (before, after), f"step {at}"
        assert left_behind(here / "studies") == []
        shutil.rmtree(here)


def full(real: Callable[..., object], *arguments: object, **keywords: object) -> object:
    return real(*arguments, **keywords) if real.__name__ in ("rename", "replace") else no_space(real, *arguments)
