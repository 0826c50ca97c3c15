"""``sam3d labels``: looking at the labels of a folder, and bringing one back."""

import sqlite3
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result

from lib.audit.log import AuditLog
from lib.files.checksums import file_sha256
from lib.studies.folder import StudiesFolder
from lib.workflow.database import database_beside
from sam3d.__main__ import main
from tests.support.server import APP_DIR
from tests.support.studies_site import BY, content, save, seen, write_studies


@pytest.fixture
def folder(tmp_path: Path) -> StudiesFolder:
    """As a server leaves it: a label that was replaced twice, and one that was deleted."""
    found = StudiesFolder(write_studies(tmp_path / "studies"))
    found.open()
    for text, ending in (("first", ".nii.gz"), ("second", ".nrrd"), ("third", ".nrrd")):
        save(found, tmp_path, "image_0", text, ending)
    save(found, tmp_path, "image_1", "deleted")
    found.delete_label("image_1", "final", BY)
    return found


def run(folder: StudiesFolder, tmp_path: Path, *words: str) -> Result:
    where = ["--studies", str(folder.path), "--audit-dir", str(tmp_path / "audit")]
    return CliRunner().invoke(main, ["--app", str(APP_DIR), "labels", *words, *where])


def test_list(folder: StudiesFolder, tmp_path: Path) -> None:
    rows = [line.split() for line in run(folder, tmp_path, "list").stdout.splitlines()]
    assert rows[0][0] == "image" and rows[1][:2] == ["image_0", "final"] and rows[1][-2:] == ["Erika", "2"]
    assert rows[2] == ["image_1", "final", "deleted", "1"] and len(rows) == 3


def test_history(folder: StudiesFolder, tmp_path: Path) -> None:
    lines = run(folder, tmp_path, "history", "image_0").stdout.splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["submit", "overwrite", "overwrite"]
    first, second = folder.history("image_0")[:2]
    assert first.id in lines[1] and second.old is not None and second.old["sha256"][:16] in lines[2]


def test_restore_and_take_it_back(folder: StudiesFolder, tmp_path: Path) -> None:
    done = run(folder, tmp_path, "restore", "image_0", "--by", "Dr. Jones")
    assert done.exit_code == 0 and "sha256" in done.stdout
    assert seen(folder.path)["labels"]["image_0"] == "second"
    assert run(folder, tmp_path, "restore", "image_0", "--by", "Dr. Jones").exit_code == 0
    assert seen(folder.path)["labels"]["image_0"] == "third"
    first = folder.history("image_0")[1].id
    assert run(folder, tmp_path, "restore", "image_0", first, "--by", "Dr. Jones").exit_code == 0
    assert seen(folder.path)["labels"]["image_0"] == "first"
    assert (folder.path / "labels/final/image_0.nii.gz").read_bytes() == content("first")
    assert run(folder, tmp_path, "restore", "image_1", "--by", "Dr. Jones").exit_code == 0
    assert seen(folder.path)["labels"]["image_1"] == "deleted"
    records = list(AuditLog(tmp_path / "audit", 2**20).records())
    assert [record["label"] for record in records] == ["restore"] * 4
    assert {record["user"] for record in records} == {"Dr. Jones"}
    assert records[-1]["sha256"] == file_sha256(folder.path / "labels/final/image_1.nii.gz")
    assert records[-1]["sha256_before"] is None and records[0]["sha256_before"] == records[1]["sha256"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("history", "nobody"), "labels list"),
        (("history", "../image_0"), "labels list"),
        (("restore", "image_2", "--by", "me"), "no former label"),
        (("restore", "image_0", "20260101", "--by", "me"), "20260101"),
        (("restore", "image_0", "--tag", "../x", "--by", "me"), "no former label"),
        (("restore", "nobody", "--by", "me"), "no former label"),
    ],
)
def test_refusals(folder: StudiesFolder, tmp_path: Path, words: tuple[str, ...], said: str,
                  caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    before = seen(folder.path)
    assert run(folder, tmp_path, *words).exit_code == 1
    assert said in caplog.text and seen(folder.path) == before


def test_a_folder_that_is_not_there(folder: StudiesFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.path.rename(tmp_path / "away")
    assert run(folder, tmp_path, "list").exit_code == 1 and "mount it" in caplog.text
    assert not folder.path.exists()


def test_a_former_label_that_was_damaged_is_not_restored(
    folder: StudiesFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder.former(folder.history("image_0")[-1])
    assert path is not None
    path.write_bytes(b"damaged")
    assert run(folder, tmp_path, "restore", "image_0", "--by", "me").exit_code == 1
    assert "not what it was" in caplog.text
    assert (folder.path / "labels/final/image_0.nrrd").read_bytes() == content("third")


def test_a_former_label_of_an_image_that_is_gone(
    folder: StudiesFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.delete_image("image_0", BY)
    assert run(folder, tmp_path, "restore", "image_0", "--by", "me").exit_code == 1
    assert "There is no image" in caplog.text


def test_masks_of_the_server_are_kept_ten_times(folder: StudiesFolder, tmp_path: Path) -> None:
    source = tmp_path / "mask.nrrd"
    for number in range(14):
        source.write_bytes(content(str(number)))
        folder.save_label("image_2", "original", ".nrrd", source, {}, BY)
    changes = folder.history("image_2", "original")
    assert len(changes) == 10 and folder.former(changes[-1]) and changes[-1].action == "overwrite"


def test_the_workflow_database_is_brought_back_for_an_older_release(folder: StudiesFolder, tmp_path: Path) -> None:
    database = database_beside(folder.path)
    assert run(folder, tmp_path, "schema", "--to", "1").exit_code == 1
    assert not database.path.exists()
    with database.changing() as connection:
        connection.execute("INSERT INTO marks VALUES ('image_0', 'skipped', '', '', 1)")
    assert "version 1" in run(folder, tmp_path, "schema", "--to", "1").output
    with sqlite3.connect(database.path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (1,)
        assert raw.execute("SELECT image FROM marks").fetchall() == [("image_0",)]
    assert run(folder, tmp_path, "schema", "--to", "99").exit_code == 1


def test_readers_are_compared(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 20), np.int16), np.eye(4)), studies / "case_1.nii.gz")
    folder = StudiesFolder(studies)
    folder.open()
    assert "two readers" in run(folder, tmp_path, "agreement").output
    for author, first in (("Dr. Roe", 2), ("Dr. Poe", 7)):
        labels = np.zeros((20, 20, 20), np.uint8)
        labels[first : first + 10, 5:15, 5:15] = 1
        nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "label.nii.gz")
        info = {"author": author, "label_info": [{"name": "lesion", "idx": 1}]}
        folder.save_label("case_1", "final", ".nii.gz", tmp_path / "label.nii.gz", info, BY)
    head, pair, mean = run(folder, tmp_path, "agreement", "case_1").output.splitlines()
    assert head.split() == ["image", "structure", "reader", "reader", "Dice", "surface", "Dice"]
    assert pair.split()[:7] == ["case_1", "lesion", "Dr.", "Poe", "Dr.", "Roe", "0.500"]
    assert mean.startswith("mean of 1  lesion")
    assert run(folder, tmp_path, "agreement", "nope").exit_code == 1
