"""The app folder that commands work in: a checkout's own, a copy, or one made of links."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from lib.presets import load_presets
from sam3d import APP_DIR
from sam3d.__main__ import main
from sam3d.app_folder import AppFolderError, app_folder


def links(folder: Path) -> dict[str, Path]:
    found = (path for path in [*folder.iterdir(), *folder.glob("*/*")] if path.is_symlink())
    return {str(path.relative_to(folder)): path.readlink() for path in found}


def test_a_checkout_works_in_its_own_folder() -> None:
    assert app_folder() == APP_DIR and (APP_DIR / "main.py").is_file()


def test_a_new_folder_gets_links_and_keeps_them(tmp_path: Path) -> None:
    folder = app_folder(tmp_path / "new/app")
    made = links(folder)
    assert made["main.py"] == APP_DIR / "main.py" and made["lib"] == APP_DIR / "lib"
    assert set(load_presets(folder / "configs", None)) == set(load_presets(APP_DIR / "configs", None))
    before = (folder / "main.py").lstat().st_ino
    assert app_folder(folder) == folder and links(folder) == made
    assert (folder / "main.py").lstat().st_ino == before
    assert {path.name for path in folder.iterdir()} == {"main.py", "lib", "configs", "weights"}


def test_an_upgrade_moves_the_links_and_keeps_what_the_user_added(tmp_path: Path) -> None:
    folder = app_folder(tmp_path / "app")
    (folder / "model").mkdir()
    (folder / "configs/own.yaml").write_text((APP_DIR / "configs/ct.yaml").read_text())
    (folder / "configs/ct.yaml").unlink()
    (folder / "configs/ct.yaml").write_text("the user's")
    for name in ("main.py", "lib", "configs/mr.yaml"):
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / "of the version before" / name)
    (folder / "configs/dropped.yaml").symlink_to(tmp_path / "of the version before/configs/dropped.yaml")
    made = links(app_folder(folder))
    assert made["lib"] == APP_DIR / "lib" and made["configs/mr.yaml"] == APP_DIR / "configs/mr.yaml"
    assert "configs/dropped.yaml" not in made and (folder / "configs/own.yaml").is_file()
    assert (folder / "configs/ct.yaml").read_text() == "the user's"


def test_an_app_of_its_own_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("# an app")
    assert app_folder(tmp_path) == tmp_path and os.listdir(tmp_path) == ["main.py"]


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(AppFolderError, match="main.py is missing"):
        app_folder(tmp_path)
    assert os.listdir(tmp_path) == ["letter.txt"]
    done = CliRunner().invoke(main, ["versions", "list", "--preset", "ct"], env={"SAM3D_APP": str(tmp_path)})
    assert done.exit_code == 1 and done.stderr.startswith(f"Error: {tmp_path} holds no MONAI Label app")


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AppFolderError, match=r"cannot be made.*--app or \$SAM3D_APP"):
        app_folder(tmp_path / "file/app")
