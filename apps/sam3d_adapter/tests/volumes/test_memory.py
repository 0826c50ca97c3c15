"""The memory that images may take: what containers leave, and what other requests have reserved."""

import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lib.volumes.memory import SHARE, MemoryShortage, free_memory, reserved

GIB = 2**30


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that the machine has free, to be changed."""
    found = [10 * GIB]
    monkeypatch.setattr("lib.volumes.memory.free_memory", lambda: found[0])
    return found


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_two_at_once_share_one_budget(free: list[int]) -> None:
    """The first has reserved its memory and not touched it yet, as it does while it begins to unpack."""
    has_begun, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with reserved("one.nii.gz", 5 * GIB):
            has_begun.set()
            may_end.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    assert has_begun.wait(60)
    try:
        with (
            pytest.raises(MemoryShortage, match=r"two\.nii\.gz needs 5\.0 GiB.*3\.0 GiB for it"),
            reserved("two.nii.gz", 5 * GIB),
        ):
            pass
        with reserved("small.nii.gz", 2 * GIB):
            pass
    finally:
        may_end.set()
        other.join(60)
    with reserved("two.nii.gz", 5 * GIB):
        pass


def test_what_was_taken_is_not_counted_twice(free: list[int]) -> None:
    with reserved("one", 4 * GIB):
        free[0] -= 4 * GIB  # it took what it had reserved
        with reserved("two", int(3.9 * GIB)):
            pass
        free[0] -= 4 * GIB  # others on the machine took more
        with pytest.raises(MemoryShortage), reserved("two", int(3.9 * GIB)):
            pass


def test_a_request_that_fails_gives_back_what_it_had_reserved(free: list[int]) -> None:
    for _ in range(3):
        with pytest.raises(KeyError), reserved("one", 7 * GIB):
            raise KeyError
    with reserved("one", int(10 * GIB * SHARE)):
        pass


V2 = {"memory__max": 3 * GIB, "memory__current": 2 * GIB, "memory__stat": f"anon 5\ninactive_file {GIB // 2}"}
V1 = {
    "memory__limit_in_bytes": 3 * GIB,
    "memory__usage_in_bytes": 2 * GIB,
    "memory__stat": f"cache 5\ntotal_inactive_file {GIB // 2}",
}
NO_LIMIT = {"memory__max": "max", "memory__current": GIB, "memory__stat": "anon 5"}


@pytest.mark.parametrize(
    ("member_of", "groups"),
    [
        # In a container of version 2, which sees itself as the root.
        ("0::/", {".": V2}),
        # A service of systemd, whose slice has the limit.
        ("0::/app.slice/sam.service", {"app.slice": V2, "app.slice/sam.service": NO_LIMIT}),
        ("5:cpu:/\n4:memory:/pod/one\n0::/", {"memory/pod/one": V1}),
        # Version 1 in a container: the path is that of the machine outside.
        ("4:cpu,memory:/docker/0123", {"memory": V1}),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path: Path, member_of: str, groups: dict[str, dict]) -> None:
    for name, files in groups.items():
        group(tmp_path / "cgroup" / name, **files)
    (tmp_path / "self").write_text(f"{member_of}\n")
    # What was read of files gives way.
    assert free_memory(tmp_path / "cgroup", tmp_path / "self") == 1.5 * GIB


@pytest.mark.parametrize("files", [NO_LIMIT, {}, {"memory__max": "?", "memory__current": 1, "memory__stat": ""}])
def test_without_a_limit_it_is_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=7 * GIB))
    group(tmp_path / "cgroup", **files)
    (tmp_path / "self").write_text("0::/\n")
    assert free_memory(tmp_path / "cgroup", tmp_path / "self") == 7 * GIB
    assert free_memory(tmp_path / "cgroup", tmp_path / "absent") == 7 * GIB


def test_this_machine_has_some() -> None:
    assert 0 < free_memory() <= psutil.virtual_memory().total
