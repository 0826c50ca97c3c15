"""Resuming, giving up, and refusing what is not the file: against a real server on this machine."""

import fcntl
import hashlib
import os
import resource
import socket
import threading
from pathlib import Path

import pytest

from lib.conversion.download import DownloadError, Patience, download
from tests.support.file_server import Fault, serving

CONTENT = os.urandom(3_000_000)
SHA = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(attempts=3, wait_s=0.01, timeout_s=2.0)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "file.pth"


def partial(target: Path) -> Path:
    return target.with_name("file.pth.partial")


def leave_partial(target: Path, content: bytes) -> None:
    target.parent.mkdir()
    partial(target).write_bytes(content)


def fetch(url: str, target: Path, **more) -> None:
    download(url + "file.pth", target, sha256=SHA, **{"size": len(CONTENT), "patience": QUICK, **more})


def test_whole_file_arrives_with_progress_and_leaves_nothing_else(target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with serving(CONTENT) as server:
        fetch(server.url, target, progress=lambda have, total: seen.append((have, total)))
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.pth"]
    assert server.asked == [("/sam/file.pth", None)]
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and [have for have, _ in seen] == sorted(have for have, _ in seen)


def test_size_need_not_be_known(target: Path) -> None:
    with serving(CONTENT) as server:
        fetch(server.url, target, size=None)
    assert target.read_bytes() == CONTENT


def test_goes_on_where_a_transfer_broke_off(target: Path) -> None:
    with serving(CONTENT, Fault(cut=1_000_000), Fault(cut=500_000)) as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_goes_on_where_an_earlier_run_broke_off(target: Path) -> None:
    with serving(CONTENT, *[Fault(cut=200_000)] * 3) as server:
        with pytest.raises(DownloadError, match="broke off at 600000 of 3000000 bytes.*600000 bytes are kept"):
            fetch(server.url, target)
        assert not target.exists() and partial(target).stat().st_size == 600_000
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=600000-"


def test_server_without_ranges_starts_over(target: Path) -> None:
    with serving(CONTENT, Fault(cut=1_000_000), Fault(ranges=False)) as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT and len(server.asked) == 2


def test_wrong_range_starts_over(target: Path) -> None:
    with serving(CONTENT, Fault(cut=1_000_000), Fault(shift=10)) as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000000-", None]


def test_complete_partial_file_is_only_checked(target: Path) -> None:
    leave_partial(target, CONTENT)
    with serving(CONTENT) as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT and len(server.asked) == 1


@pytest.mark.parametrize("wrong", [b"x" * 1_000_000, CONTENT + b"more"], ids=["other beginning", "too long"])
def test_foreign_partial_file_is_thrown_away(target: Path, wrong: bytes) -> None:
    leave_partial(target, wrong)
    with serving(CONTENT) as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1][1] is None


def test_wrong_checksum_leaves_nothing(target: Path) -> None:
    altered = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    with (
        serving(altered) as server,
        pytest.raises(DownloadError, match=f"{hashlib.sha256(altered).hexdigest()} instead of {SHA}"),
    ):
        fetch(server.url, target)
    assert list(target.parent.iterdir()) == []


def test_page_of_a_login_is_refused_by_its_length(target: Path) -> None:
    with serving(b"<html>Please log in</html>") as server, pytest.raises(DownloadError, match="offers 26 bytes"):
        fetch(server.url, target)
    assert not target.exists()


def test_more_than_expected_is_not_written(target: Path) -> None:
    fault = Fault(content=CONTENT * 2, says_length=False)
    with serving(CONTENT, fault) as server, pytest.raises(DownloadError, match="more than the 3000000 bytes"):
        fetch(server.url, target)
    assert not target.exists() and partial(target).stat().st_size <= len(CONTENT)


def test_passing_trouble_of_the_server_is_waited_out(target: Path) -> None:
    with serving(CONTENT, Fault(status=503), Fault(status=429)) as server:
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT and len(server.asked) == 3


@pytest.mark.parametrize("status", [403, 404])
def test_refusal_is_final(target: Path, status: int) -> None:
    with serving(CONTENT, Fault(status=status)) as server, pytest.raises(DownloadError, match=f"answers {status}"):
        fetch(server.url, target)
    assert len(server.asked) == 1


def test_server_that_stays_in_trouble_is_given_up(target: Path) -> None:
    with serving(CONTENT, *[Fault(status=500)] * 9) as server, pytest.raises(DownloadError, match="after 3 attempts"):
        fetch(server.url, target)
    assert len(server.asked) == 3


def test_server_that_is_down(target: Path) -> None:
    with serving(CONTENT) as server:
        pass
    with pytest.raises(DownloadError, match="no connection.*refused"):
        fetch(server.url, target)


def test_silent_server_is_given_up(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(DownloadError, match="after 2 attempts.*timed out"):
            fetch(url, target, patience=Patience(attempts=2, wait_s=0.01, timeout_s=0.2))


def test_only_http(target: Path) -> None:
    with pytest.raises(DownloadError, match="no http"):
        fetch("file:///etc/", target)


def test_second_process_is_told_to_wait(target: Path) -> None:
    leave_partial(target, b"")
    with partial(target).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with serving(CONTENT) as server, pytest.raises(DownloadError, match="Another process"):
            fetch(server.url, target)
    assert server.asked == []


def test_full_disk_keeps_what_is_there(target: Path) -> None:
    # A limit on the size of files gives the same error in the same place as a disk without space.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving(CONTENT) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, before[1]))
        try:
            with pytest.raises(DownloadError, match="cannot be written"):
                fetch(server.url, target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        fetch(server.url, target)
    assert target.read_bytes() == CONTENT


def test_threads_that_ask_at_once_leave_one_right_file(target: Path) -> None:
    outcomes: list[str] = []

    def ask(url: str) -> None:
        try:
            fetch(url, target)
            outcomes.append("fetched")
        except DownloadError as error:
            outcomes.append(str(error))

    with serving(CONTENT) as server:
        threads = [threading.Thread(target=ask, args=(server.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert target.read_bytes() == CONTENT and "fetched" in outcomes
    assert all(o == "fetched" or "Another process" in o for o in outcomes)
