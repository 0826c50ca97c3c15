"""Private folders, and folders that are filled before they get their name."""

import stat
from pathlib import Path

import pytest

from lib.files.folders import new_folder, private_folder, remove_folder, remove_leftovers, temporary_folders


def test_a_private_folder_is_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(0o755)
    private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_closed_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    (tmp_path / "folder").mkdir(0o755)
    private_folder(tmp_path / "folder")
    assert "stays open to other users" in caplog.text and str(tmp_path) not in caplog.text


def test_an_unfinished_folder_is_found_and_removed(tmp_path: Path) -> None:
    (tmp_path / "finished").mkdir()
    new_folder(tmp_path).joinpath("file").write_text("half")
    assert [path.name.startswith(".new-") for path in temporary_folders(tmp_path)] == [True]
    remove_leftovers(temporary_folders(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["finished"]


def test_a_removed_folder_is_gone_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("x")
    remove_folder(tmp_path / "old")
    assert list(tmp_path.iterdir()) == []
