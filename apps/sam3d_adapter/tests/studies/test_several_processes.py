"""Several processes on one folder: nothing that one of them saved is undone by another."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from lib.studies.folder import StudiesFolder, Taken
from tests.support.studies_site import BY, content, save, seen, write, write_studies

LABELS = 40


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    return write_studies(tmp_path / "studies", 2 * LABELS)


def at_once(*tasks: Any) -> list[Any]:
    """Runs functions with their arguments in a process each, which begin together; what they return."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(len(tasks)), context.SimpleQueue()

    def run(number: int, task: Any, *arguments: Any) -> None:
        barrier.wait()
        try:
            answers.put((number, task(*arguments)))
        except Exception as error:
            answers.put((number, error))

    processes = [context.Process(target=run, args=(number, *task)) for number, task in enumerate(tasks)]
    for process in processes:
        process.start()
    found = dict(answers.get() for _ in tasks)
    for process in processes:
        process.join()
    return [found[number] for number in range(len(tasks))]


def save_all(studies: Path, work: Path, images: list[str], text: str) -> None:
    work.mkdir()
    folder = StudiesFolder(studies)
    folder.open()
    for image in images:
        save(folder, work, image, f"{text} of {image}")


@pytest.mark.parametrize("is_shared", [False, True])
def test_two_servers_lose_no_label_and_no_name(studies: Path, tmp_path: Path, is_shared: bool) -> None:
    images = [f"image_{number}" for number in range(2 * LABELS)]
    mine, yours = (images[:LABELS], images[:LABELS]) if is_shared else (images[:LABELS], images[LABELS:])
    answers = at_once(
        (save_all, studies, tmp_path / "a", mine, "mine"), (save_all, studies, tmp_path / "b", yours, "yours")
    )
    assert answers == [None, None]
    found = seen(studies)
    for image in images[: LABELS if is_shared else 2 * LABELS]:
        assert found["labels"][image] in (f"mine of {image}", f"yours of {image}")
    if is_shared:  # what the other replaced is in the history
        both = {*found["former"], *found["labels"].values()}
        assert {f"{text} of {image}" for image in mine for text in ("mine", "yours")} <= both


def list_all(studies: Path, labels: int) -> int:
    """How often the history was listed until it held so many changes."""
    folder, count = StudiesFolder(studies), 0
    while len(folder.history()) < labels:
        count += 1
    return count


def test_the_history_is_listed_while_another_server_saves(studies: Path, tmp_path: Path) -> None:
    images = [f"image_{number}" for number in range(2 * LABELS)]
    answers = at_once(
        (save_all, studies, tmp_path / "a", images, "mine"), *((list_all, studies, 2 * LABELS) for _ in range(2))
    )
    assert answers[0] is None and all(isinstance(count, int) and count for count in answers[1:]), answers


def test_a_server_sees_what_another_saves(studies: Path, tmp_path: Path) -> None:
    here, there = StudiesFolder(studies), StudiesFolder(studies)
    for folder in (here, there):
        folder.open()
    save(there, tmp_path, "image_0", "theirs")
    assert here.index()["objects"]["image_0"]["labels"]["final"]["info"]["label_info"] == ["theirs"]
    here.describe_image("image_1", {"strategy": {}})
    there.describe_image("image_2", {"reader": "Erika"})
    for folder in (here, there):
        objects = folder.index()["objects"]
        assert "strategy" in objects["image_1"]["image"]["info"] and "reader" in objects["image_2"]["image"]["info"]
        assert "final" in objects["image_0"]["labels"]


def add(studies: Path, file: Path) -> str:
    folder = StudiesFolder(studies)
    folder.open()
    folder.add_image("new", ".nii.gz", file, {"from": file.name})
    return file.name


def test_one_id_is_given_once(studies: Path, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.nii.gz", name) for name in ("a", "b", "c")]
    answers = at_once(*((add, studies, file) for file in files))
    (first,) = [answer for answer in answers if isinstance(answer, str)]
    assert sum(isinstance(answer, Taken) for answer in answers) == 2
    assert (studies / "new.nii.gz").read_bytes() == (tmp_path / first).read_bytes()
    folder = StudiesFolder(studies)
    folder.open()
    assert folder.index()["objects"]["new"]["image"]["info"]["from"] == first


def test_what_is_put_there_taken_away_and_moved_by_hand_is_noticed(studies: Path, tmp_path: Path) -> None:
    folder = StudiesFolder(studies)
    folder.open()
    save(folder, tmp_path, "image_0", "one")
    (studies / "image_0.nii.gz").rename(studies / "other.nii.gz")
    assert "image_0" not in folder.index()["objects"] and "other" in folder.index()["objects"]
    (studies / "other.nii.gz").rename(studies / "image_0.nii.gz")
    entry = folder.index()["objects"]["image_0"]["labels"]["final"]
    assert entry["info"]["label_info"] == ["one"]  # beside the label they were kept
    (studies / "labels/final/image_1.nrrd").write_bytes(content("by hand"))
    (studies / "labels/final/._image_2.nrrd").write_bytes(b"of macOS")
    assert folder.index()["objects"]["image_1"]["labels"]["final"]["ext"] == ".nrrd"
    assert folder.index()["objects"]["image_2"]["labels"] == {}
    folder.delete_label("image_1", "final", BY)
    assert folder.former(folder.history("image_1")[-1])
