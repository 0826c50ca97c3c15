"""Who may look into a registry's folders, and what is swept out of them."""

import os
import stat
from pathlib import Path

import pytest

from lib.files.atomic_write import replacing
from lib.registry.version import Facts
from lib.registry.versions import Versions


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


@pytest.fixture(autouse=True)
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_versions_are_the_server_s_user_s_alone(versions: Versions, write_weights) -> None:
    versions.add(write_weights(1), Facts("me"))
    versions.pin("run-1", versions.ids()[0])
    assert mode(versions.folder / "versions") == mode(versions.folder / "runs") == 0o700


def test_those_of_an_earlier_release_are_closed(versions: Versions, ids: list[str]) -> None:
    folder = versions.folder / "versions"
    folder.chmod(0o755)
    again = Versions(versions.folder, "ct", "tiny", versions.family)
    again.prepare()  # the server's start
    assert mode(folder) == 0o700
    folder.chmod(0o2770)
    again.publish(ids[0], "me")
    assert mode(folder) == 0o700


@pytest.mark.parametrize("name", ["progress.json", "versions.html", "runs/r/run.json", "runs/r/candidate.safetensors"])
def test_what_a_training_is_writing_is_left_to_it(versions: Versions, ids: list[str], name: str) -> None:
    """It holds another lock, and whoever publishes meanwhile must not end it."""
    path = versions.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    state = versions.folder / "runs/r/tiny_state.partial"
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text("half")
    other = Versions(versions.folder, "ct", "tiny", versions.family)
    with replacing(path) as partial:
        partial.write_text("half")
        other.prepare()
        other.publish(ids[0], "Dr. Jones")
        other.roll_back("Dr. Jones")
        partial.write_text("whole")
    assert path.read_text() == "whole" and state.exists()


def test_what_the_registry_left_half_written_is_swept(versions: Versions, ids: list[str]) -> None:
    versions.pin("r", ids[0])
    left = [versions.folder / name for name in ("served.json.7-0a.partial", "runs/r/holds.7.partial")]
    for path in left:
        path.write_text("half")
    folders = [versions.folder / "versions" / name for name in (".new-7", ".gone-v0001", ".new-import-x")]
    for folder in folders:
        folder.mkdir()
        (folder / "weights.safetensors").write_text("half")
    versions.prepare()
    assert not any(path.exists() for path in (*left, *folders))
    assert versions.ids() == ids and versions.pins() == {"r": ids[0]}
