"""The audit files: private, whole lines only, bounded, shared by threads and processes."""

import fcntl
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lib.audit import log as module
from lib.audit.log import AuditError, AuditLog, new_id

APP = Path(__file__).parents[2]
MIB = 2**20
NOW = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)

APPEND_MANY = """
import sys
from pathlib import Path
from lib.audit.log import AuditLog
log = AuditLog(Path(sys.argv[1]), 2**30)
for number in range(int(sys.argv[3])):
    log.append({"id": "x", "writer": sys.argv[2], "number": number, "filler": "f" * (number * 37 % 5000)})
"""
# As on a full disk, the file system takes a part of the line and then no more.
APPEND_UNTIL_FULL = """
import resource, signal, sys
from pathlib import Path
from lib.audit.log import AuditLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = AuditLog(Path(sys.argv[1]), 2**30)
log.append({"id": "first"})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        log.append({"id": "large", "filler": "f" * 8000})
    except Exception as error:
        print(type(error).__name__, error)
log.append({"id": "last"})
"""


def python(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=APP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for path in AuditLog(folder, MIB).files() for line in path.read_text().splitlines()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "audit"


def test_ids_are_unique_and_say_when() -> None:
    ids = {new_id(NOW) for _ in range(1000)}
    assert len(ids) == 1000 and all(one.startswith("20260131T235959-") for one in ids)


def test_nothing_is_touched_before_the_first_record(folder: Path) -> None:
    log = AuditLog(folder, MIB)
    assert log.files() == [] and not folder.parent.exists()


def test_folder_and_files_are_for_their_owner_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        log = AuditLog(folder, MIB)
        log.name_hash("name")
        log.append({"id": "a"})
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert {path.name: mode(path) for path in folder.iterdir()} == dict.fromkeys(
        (log.files()[0].name, "key", "lock"), 0o600
    )


def test_a_folder_that_is_open_to_others_is_not_used(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o750)
    with pytest.raises(AuditError, match=r"open to others \(mode 750\); make it 700") as caught:
        AuditLog(folder, MIB).append({"id": "a"})
    assert str(folder) not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        AuditLog(tmp_path / "file" / "audit", MIB).append({"id": "a"})
    with pytest.raises(AuditError, match="something else"):
        AuditLog(tmp_path / "file", MIB).append({"id": "a"})


def test_a_link_in_place_of_the_file_is_not_followed(folder: Path, tmp_path: Path) -> None:
    log = AuditLog(folder, MIB)
    log.append({"id": "a"})
    (target := tmp_path / "target").write_text("")
    path = log.files()[0]
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        log.append({"id": "b"})
    assert target.read_text() == ""


def test_records_are_found_again(folder: Path) -> None:
    log = AuditLog(folder, MIB)
    records = [{"id": new_id(NOW), "n": n, "text": "Ä\n\u2028"} for n in range(20)]
    for record in records:
        log.append(record)
    assert [log.find(record["id"]) for record in records] == records
    with pytest.raises(AuditError, match="no record 20260131T235959-000000000000 among 1 files"):
        log.find("20260131T235959-000000000000")
    for nonsense in ("", "../key", "20260131T235959", "*"):
        with pytest.raises(AuditError, match="is no id of a record"):
            log.find(nonsense)


def test_an_id_that_another_record_mentions_is_not_mistaken_for_it(folder: Path) -> None:
    log, wanted = AuditLog(folder, MIB), new_id(NOW)
    log.append({"id": new_id(NOW), "about": wanted})
    log.append({"id": wanted})
    assert log.find(wanted) == {"id": wanted}


@pytest.mark.parametrize("record", [{"a": float("nan")}, {"a": object()}])
def test_what_json_cannot_say_writes_nothing(folder: Path, record: dict) -> None:
    with pytest.raises((TypeError, ValueError)):
        AuditLog(folder, MIB).append(record)
    assert AuditLog(folder, MIB).files() == []


def test_processes_and_threads_write_whole_lines(folder: Path) -> None:
    processes = [python(APPEND_MANY, folder, name, 200) for name in "ab"]
    log = AuditLog(folder, 2**30)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: log.append({"id": "y", "writer": "c", "number": n}), range(200)))
    for process in processes:
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output
    found = lines(folder)
    for writer in "abc":
        numbers = [record["number"] for record in found if record["writer"] == writer]
        assert sorted(numbers) == list(range(200))
    # Of one process, in the order in which it wrote.
    assert [record["number"] for record in found if record["writer"] == "a"] == list(range(200))


def test_rotation_drops_the_oldest_and_stays_within_the_budget(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(folder, 64 * 1024)
    for number in range(500):
        log.append({"id": f"{number:08d}", "filler": "f" * 500})
        assert sum(path.stat().st_size for path in log.files()) <= 64 * 1024
    assert len(log.files()) > 10
    kept = [int(record["id"]) for record in lines(folder)]
    assert kept == list(range(kept[0], 500)) and 80 < len(kept) < 128
    assert "removed" in caplog.text


def test_a_new_day_begins_a_new_file_and_old_days_go_first(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True)
    for day in ("20200101", "20200102"):
        (folder / f"audit-{day}-0000.jsonl").write_text(json.dumps({"id": day, "filler": "f" * 30_000}) + "\n")
    (folder / "audit-notes.txt").write_text("not ours")
    log = AuditLog(folder, 64 * 1024)
    log.append({"id": "a", "filler": "f" * 10_000})
    assert [path.name[6:14] for path in log.files()] == ["20200102", f"{datetime.now(UTC):%Y%m%d}"]
    assert (folder / "audit-notes.txt").exists()


def test_one_record_larger_than_the_budget_is_kept(folder: Path) -> None:
    log = AuditLog(folder, 1000)
    log.append({"id": "small"})
    log.append({"id": "large", "filler": "f" * 5000})
    assert lines(folder)[-1]["id"] == "large"
    log.append({"id": "next"})
    assert [record["id"] for record in lines(folder)] == ["large", "next"]


def test_on_a_full_disk_the_half_line_is_taken_back(folder: Path) -> None:
    process = python(APPEND_UNTIL_FULL, folder)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert len(output.splitlines()) == 2 and "disk full" in output
    assert lines(folder) == [{"id": "first"}, {"id": "last"}]


def test_a_torn_line_does_not_swallow_the_next(folder: Path) -> None:
    log, wanted = AuditLog(folder, MIB), new_id(NOW)
    log.append({"id": new_id(NOW)})
    with log.files()[0].open("a") as file:
        file.write(f'{{"id":"{wanted}","torn')
    log.append({"id": wanted, "whole": True})
    assert log.find(wanted) == {"id": wanted, "whole": True}


def test_a_lock_that_is_never_given_back_is_not_waited_for_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(folder, MIB)
    log.append({"id": "a"})
    monkeypatch.setattr(module, "_LOCK_TIMEOUT_S", 0.05)
    with (folder / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match="locked"):
            log.append({"id": "b"})
    log.append({"id": "c"})
    assert [record["id"] for record in lines(folder)] == ["a", "c"]


def test_names_are_hashed_with_the_key_of_the_folder(folder: Path, tmp_path: Path) -> None:
    log = AuditLog(folder, MIB)
    assert not log.has_key()
    hashed = log.name_hash("Mustermann_Erika")
    assert log.has_key()
    assert AuditLog(folder, MIB).name_hash("Mustermann_Erika") == hashed != log.name_hash("Mustermann_Erik")
    assert AuditLog(tmp_path / "other", MIB).name_hash("Mustermann_Erika") != hashed
