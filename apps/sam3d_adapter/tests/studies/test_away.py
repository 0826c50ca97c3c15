"""A folder of images that goes away and comes back, or cannot be written to."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.studies.folder import StudiesFolder
from lib.studies.presence import StudiesError
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.studies_site import BY, save, seen, write, write_studies


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    return write_studies(tmp_path / "studies")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """With images in it."""
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(small_disk(tmp_path / "disk", 2**21))
        except OSError as error:
            pytest.skip(f"needs the right to mount a disk: {error}")
        write_studies(found.folder)
        yield found


def opened(studies: Path) -> StudiesFolder:
    folder = StudiesFolder(studies)
    folder.open()
    return folder


def check_away(folder: StudiesFolder, work: Path) -> None:
    """It is said, nothing is written, and what was known is still known."""
    before = sorted(folder.path.rglob("*")) if folder.path.exists() else None
    assert folder.index()["objects"].keys() == {"image_0", "image_1", "image_2"}
    for change in (
        lambda: save(folder, work, "image_0", "lost"),
        lambda: folder.add_image("new", ".nii", write(work / "new.nii", "new"), {}),
        lambda: folder.describe_image("image_0", {"strategy": {}}),
        lambda: folder.delete_label("image_0", "final", BY),
        lambda: folder.delete_image("image_0", BY),
        folder.require,
    ):
        with pytest.raises(StudiesError, match=r"(?s)3 images.*without a restart"):
            change()
    folder.refresh()
    assert folder.index()["objects"].keys() == {"image_0", "image_1", "image_2"}
    assert (sorted(folder.path.rglob("*")) if folder.path.exists() else None) == before


def check_here(folder: StudiesFolder, work: Path, text: str) -> None:
    assert folder.problem() is None
    save(folder, work, "image_1", text)
    assert seen(folder.path)["labels"] == {"image_0": "one", "image_1": text, "image_2": None}


def test_a_folder_that_is_moved_away_and_back(studies: Path, tmp_path: Path) -> None:
    folder = opened(studies)
    save(folder, tmp_path, "image_0", "one")
    studies.rename(tmp_path / "away")
    check_away(folder, tmp_path)
    studies.mkdir()  # as a script may do it
    check_away(folder, tmp_path)
    assert not list(studies.iterdir())
    (studies / "note.txt").touch()
    check_away(folder, tmp_path)
    (studies / "note.txt").unlink()
    studies.rmdir()
    (tmp_path / "away").rename(studies)
    check_here(folder, tmp_path, "two")


@contextlib.contextmanager
def mounted(disk: SmallDisk, place: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", disk.folder, place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_is_unmounted_and_mounted_again(disk: SmallDisk, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with mounted(disk, place):
        folder = opened(place)
        save(folder, tmp_path, "image_0", "one")
    check_away(folder, tmp_path)
    assert not list(place.iterdir())
    # Of a server that was once started without the disk.
    (place / "datastore_v2.json").write_text('{"objects": {}}')
    check_away(folder, tmp_path)
    for text in ("two", "three"):
        with mounted(disk, place):
            check_here(folder, tmp_path, text)
        check_away(folder, tmp_path)


def test_a_server_that_starts_before_its_disk_is_mounted(disk: SmallDisk, tmp_path: Path) -> None:
    for place in (tmp_path / "empty", tmp_path / "missing"):
        if place.name == "empty":
            place.mkdir()
        folder = opened(place)
        assert folder.index()["objects"] == {} and (folder.away() is None) == place.exists()
        assert not place.exists() or not list(place.iterdir())  # nothing of ours below the disk
        place.mkdir(exist_ok=True)
        with mounted(disk, place):
            assert folder.index()["objects"].keys() == {"image_0", "image_1", "image_2"}
            save(folder, tmp_path, "image_0", place.name)
        assert not list(place.iterdir())
    assert seen(disk.folder)["labels"]["image_0"] == "missing"


def test_a_disk_that_turns_read_only_and_back(disk: SmallDisk, tmp_path: Path) -> None:
    folder = opened(disk.folder)
    save(folder, tmp_path, "image_0", "one")
    before = seen(disk.folder)
    with disk.read_only():
        assert folder.index()["objects"].keys() == {"image_0", "image_1", "image_2"} and folder.away() is None
        assert "cannot be written" in str(folder.problem()) and "no restart" in str(folder.problem())
        with pytest.raises(OSError, match="Read-only"):
            save(folder, tmp_path, "image_0", "two")
        with pytest.raises(OSError, match="Read-only"):
            folder.add_image("new", ".nii", write(tmp_path / "new.nii", "new"), {})
    assert seen(disk.folder) == before
    check_here(folder, tmp_path, "three")


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_folder_that_is_read_only_from_the_start(disk: SmallDisk, tmp_path: Path, is_damaged: bool) -> None:
    if is_damaged:
        save(opened(disk.folder), tmp_path, "image_0", "one")
        (disk.folder / "datastore_v2.json").write_bytes(b"{")
    with disk.read_only():
        folder = opened(disk.folder)
        objects = folder.index()["objects"]
        assert objects.keys() == {"image_0", "image_1", "image_2"}
        if is_damaged:
            assert objects["image_0"]["labels"]["final"]["info"]["label_info"] == ["one"]
        assert folder.problem() is not None
    if not is_damaged:
        save(folder, tmp_path, "image_0", "one")
    check_here(folder, tmp_path, "two")


def test_a_full_disk_is_no_end(disk: SmallDisk, tmp_path: Path) -> None:
    folder = opened(disk.folder)
    save(folder, tmp_path, "image_0", "one")
    before = seen(disk.folder)
    for left in (0, 4096, 16384):
        with disk.full(left=left):
            with pytest.raises(OSError, match="No space"):
                save(folder, tmp_path, "image_0", "x" * 100)
            with pytest.raises(OSError, match="No space"):
                folder.add_image("new", ".nii", write(tmp_path / "new.nii", "y" * 100), {})
            assert folder.index()["objects"]["image_0"]["labels"]["final"]["info"]["label_info"] == ["one"]
        assert seen(disk.folder) == before
    with disk.full(), pytest.raises(OSError, match="No space"):
        folder.describe_image("image_0", {"strategy": {"random": {"ts": 1}}})
    assert seen(disk.folder) == before
    check_here(folder, tmp_path, "two")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(studies: Path) -> None:
    folder = opened(studies)
    studies.chmod(0)
    try:
        assert "right to read" in str(folder.away())
    finally:
        studies.chmod(0o700)
    assert folder.problem() is None


def test_a_folder_that_lost_its_index_is_no_other_folder(studies: Path, tmp_path: Path) -> None:
    folder = opened(studies)
    save(folder, tmp_path, "image_0", "one")
    (studies / "datastore_v2.json").unlink()
    check_here(folder, tmp_path, "two")
    for path in studies.glob("*.nii.gz"):
        path.unlink()
    assert folder.index()["objects"] == {} and folder.problem() is None
