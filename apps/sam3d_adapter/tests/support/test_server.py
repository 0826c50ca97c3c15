"""The copy of the app that servers of tests run."""

from pathlib import Path

import pytest

from tests.support.server import APP_DIR, copy_app


@pytest.fixture
def source(tmp_path: Path) -> Path:
    app = tmp_path / "source"
    for name in ("lib/sub/__pycache__", "configs", "weights", "tests", "model"):
        (app / name).mkdir(parents=True)
    for name in (
        "main.py",
        "lib/sub/a.py",
        "lib/sub/__pycache__/a.pyc",
        "configs/ct.yaml",
        "weights/base",
        "tests/t.py",
    ):
        (app / name).write_text(name)
    return app


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_a_server_needs_is_copied_and_no_more(source: Path, tmp_path: Path) -> None:
    copy = copy_app(tmp_path / "copy", source=source)
    assert files(copy) == {"main.py", "lib/sub/a.py", "configs/ct.yaml", "weights/base"}


def test_presets_and_weights_can_be_added_or_replaced(source: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_text("own weights")
    copy = copy_app(
        tmp_path / "copy", source=source, presets={"ct": "changed", "new": "added"}, weights={"trained": own}
    )
    assert (copy / "configs" / "ct.yaml").read_text() == "changed"
    assert (copy / "configs" / "new.yaml").read_text() == "added"
    assert (copy / "weights" / "trained").read_text() == "own weights"
    assert (source / "configs" / "ct.yaml").read_text() == "configs/ct.yaml"


def test_presets_of_the_app_can_be_left_out(source: Path, tmp_path: Path) -> None:
    copy = copy_app(tmp_path / "copy", source=source, presets={"new": "added"}, keep_presets=False)
    assert {name for name in files(copy) if name.startswith("configs")} == {"configs/new.yaml"}


def test_the_app_is_the_one_of_this_checkout() -> None:
    assert (APP_DIR / "main.py").is_file()
