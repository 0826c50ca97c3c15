"""Whatever is wrong with the index, the folder opens, with everything that lies in it."""

import functools
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from lib.studies.folder import StudiesFolder
from lib.studies.index import NAME, IndexDamaged, parse_index
from tests.support.faulty_disk import Steps, in_child, kill
from tests.support.studies_site import BY, save, seen, write, write_studies

GOOD = {"name": "x", "description": "", "images_dir": ".", "labels_dir": "labels", "objects": {}}
CASE = {"image": {"ext": ".nii.gz", "info": {}}, "labels": {}}


def with_objects(objects: Any, **more: Any) -> bytes:
    return json.dumps(GOOD | {"objects": objects} | more).encode()


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "zeros": bytes(4096),
    "text": b"no JSON",
    "binary": b"\xff\xfe\x00\x01",
    "NaN": with_objects({"image_0": CASE | {"image": {"ext": ".nii.gz", "info": {"dice": float("nan")}}}}),
    "infinity": with_objects({"image_0": CASE | {"image": {"ext": ".nii.gz", "info": {"dice": 1}}}}).replace(
        b"1}", b"1e999}"
    ),
    "half a character": with_objects({"image_0": CASE | {"image": {"ext": ".nii.gz", "info": {"x": "\ud800"}}}}),
    "nested": b"[" * 100_000,
    "list": b"[]",
    "null": b"null",
    "number": b"3",
    "no objects": b"{}",
    "objects a list": with_objects([]),
    "case a text": with_objects({"image_0": "x"}),
    "image missing": with_objects({"image_0": {"labels": {}}}),
    "labels a list": with_objects({"image_0": CASE | {"labels": []}}),
    "label a text": with_objects({"image_0": CASE | {"labels": {"final": "x"}}}),
    "info a text": with_objects({"image_0": {"image": {"ext": ".nii.gz", "info": "x"}}}),
    "ending a number": with_objects({"image_0": {"image": {"ext": 3, "info": {}}}}),
    "ending elsewhere": with_objects({"image_0": {"image": {"ext": "/../../x", "info": {}}}}),
    "image elsewhere": with_objects({"../image_0": CASE}),
    "label elsewhere": with_objects({"image_0": CASE | {"labels": {"../x": CASE["image"]}}}),
    "folder elsewhere": with_objects({}, images_dir="../.."),
    "folder absolute": with_objects({}, labels_dir="/etc"),
    "name a number": with_objects({}, name=3),
}


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Labels with names, one of them in another format, and a description of an image."""
    folder = StudiesFolder(write_studies(tmp_path / "studies"))
    folder.open()
    save(folder, tmp_path, "image_0", "first")
    save(folder, tmp_path, "image_0", "second", ".nrrd")
    save(folder, tmp_path, "image_1", "third")
    folder.describe_image("image_2", {"patient": "P7"})
    return tmp_path / "studies"


@pytest.mark.parametrize("name", DAMAGED)
def test_an_index_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(IndexDamaged, match=r"^it[s ]"):
        parse_index(DAMAGED[name])


@pytest.mark.parametrize("is_running", [False, True], ids=["at the start", "while it runs"])
@pytest.mark.parametrize("name", [*DAMAGED, "cut", "folder"])
def test_it_is_made_anew_with_all_names_and_the_broken_one_is_kept(
    studies: Path, name: str, is_running: bool, caplog: pytest.LogCaptureFixture
) -> None:
    before, index = seen(studies), json.loads((studies / NAME).read_bytes())
    folder = StudiesFolder(studies)
    if is_running:
        folder.open()
    whole = (studies / NAME).read_bytes()
    broken = DAMAGED.get(name, whole[: len(whole) // 2])
    (studies / NAME).unlink()
    (studies / NAME).mkdir() if name == "folder" else (studies / NAME).write_bytes(broken)
    with caplog.at_level(logging.ERROR):
        if not is_running:
            folder.open()
        assert folder.index()["objects"] == index["objects"]
    assert seen(studies) == before
    (kept,) = studies.glob("datastore_v2.damaged-*.json")
    assert kept.is_dir() if name == "folder" else kept.read_bytes() == broken
    assert "damaged" in caplog.text and "anew" in caplog.text


def test_a_lost_index_comes_back_with_all_names(studies: Path) -> None:
    before, index = seen(studies), json.loads((studies / NAME).read_bytes())
    (studies / NAME).unlink()
    assert seen(studies) == before
    assert json.loads((studies / NAME).read_bytes())["objects"] == index["objects"]


def test_files_that_are_not_there_leave_the_index_and_the_one_before_is_kept(studies: Path, tmp_path: Path) -> None:
    before = (studies / NAME).read_bytes()
    (studies / "image_1.nii.gz").rename(tmp_path / "away.nii.gz")
    (studies / "labels/final/image_0.nrrd").unlink()
    folder = StudiesFolder(studies)
    folder.open()
    assert {name: [*case["labels"]] for name, case in folder.index()["objects"].items()} == {
        "image_0": [],
        "image_2": [],
    }
    (kept,) = studies.glob("datastore_v2.before-*.json")
    assert kept.read_bytes() == before
    (tmp_path / "away.nii.gz").rename(studies / "image_1.nii.gz")
    assert folder.index()["objects"]["image_1"]["labels"]["final"]["info"]["label_info"] == ["third"]


def test_names_that_an_index_lost_come_back_at_the_start(studies: Path) -> None:
    before, index = seen(studies), json.loads((studies / NAME).read_bytes())
    for case in index["objects"].values():
        for label in case["labels"].values():
            label["info"] = {"ts": 3}
    (studies / NAME).write_text(json.dumps(index))
    assert seen(studies) == before


def test_names_of_an_earlier_release_are_kept_beside_their_labels(studies: Path) -> None:
    before = seen(studies)
    for note in studies.glob("labels/final/*.json"):
        note.unlink()
    StudiesFolder(studies).open()
    (studies / NAME).write_bytes(b"")
    assert seen(studies) == before


def test_names_are_not_given_to_another_label(studies: Path) -> None:
    (studies / "labels/final/image_1.nii.gz").write_bytes(b"another label")
    (studies / NAME).write_bytes(b"")
    folder = StudiesFolder(studies)
    folder.open()
    assert folder.index()["objects"]["image_1"]["labels"]["final"]["info"].keys() == {"ts", "name"}


def test_a_damaged_note_is_no_note(studies: Path) -> None:
    for content in (b"", b"{", b"[]", b'{"file": "../x", "sha256": "", "info": {}, "saved_at": ""}', bytes(9)):
        (studies / "labels/final/image_1.json").write_bytes(content)
        (studies / NAME).write_bytes(b"")
        folder = StudiesFolder(studies)
        folder.open()
        assert folder.index()["objects"]["image_1"]["labels"]["final"]["ext"] == ".nii.gz"


def test_an_interrupted_change_that_cannot_be_read_is_set_aside(studies: Path, tmp_path: Path) -> None:
    before = seen(studies)
    (studies / "label_history/.pending/x").mkdir()
    (studies / "label_history/.pending/x/change.json").write_text("{")
    os.utime(studies / "label_history/.pending")
    assert seen(studies) == before
    assert (studies / "label_history/.damaged-x/change.json").exists()
    folder = StudiesFolder(studies)
    folder.open()
    save(folder, tmp_path, "image_2", "fourth")
    assert seen(studies)["labels"]["image_2"] == "fourth"


@pytest.mark.parametrize("place", ["labels/round_2", "label_history/round_2", "labels/round_2/image_0.nii.gz/x"])
def test_what_stands_in_the_way_of_one_label_stops_no_other(studies: Path, tmp_path: Path, place: str) -> None:
    before = seen(studies)
    (studies / place).parent.mkdir(parents=True, exist_ok=True)
    (studies / place).write_text("in the way")
    folder = StudiesFolder(studies)
    folder.open()
    source = write(tmp_path / "label.nii.gz", "new")
    with pytest.raises((FileExistsError, NotADirectoryError, IsADirectoryError)):
        folder.save_label("image_0", "round_2", ".nii.gz", source, {}, BY)
    assert seen(studies) == before
    save(folder, tmp_path, "image_2", "fourth")
    assert seen(studies)["labels"]["image_2"] == "fourth"


def test_an_interrupted_change_that_something_stands_in_the_way_of_stops_no_other(
    studies: Path, tmp_path: Path
) -> None:
    before = seen(studies)

    def killed(at: int) -> None:
        with Steps(kill, at).watched():
            folder = StudiesFolder(studies)
            folder.open()
            folder.save_label("image_0", "round_2", ".nii.gz", write(tmp_path / "label.nii.gz", "new"), {}, BY)

    steps = iter(range(100))
    while not list(studies.glob("label_history/.pending/*")):
        assert os.WIFSIGNALED(in_child(functools.partial(killed, next(steps))))
    shutil.rmtree(studies / "labels/round_2")
    (studies / "labels/round_2").write_text("in the way")
    assert seen(studies)["labels"] == before["labels"]
    assert list(studies.glob("label_history/.damaged-*/new/image_0.nii.gz"))
    folder = StudiesFolder(studies)
    folder.open()
    save(folder, tmp_path, "image_2", "fourth")
    assert seen(studies)["labels"]["image_2"] == "fourth"
