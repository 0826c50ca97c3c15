"""Files replaced whole or not at all."""

import os
import re
import threading
from pathlib import Path

import pytest

from lib.files.atomic_write import replacing


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        with replacing(path) as partial:
            partial.write_text("new and longer")
            assert path.read_text() == "old"
        assert reader.read() == "old" and path.read_text() == "new and longer"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="no space"), replacing(path) as partial:
        partial.write_text("ne")
        raise OSError("no space")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_writers_of_one_process_do_not_take_each_other_s_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as one:
        with replacing(path) as other:
            assert one != other
            other.write_text("other")
        assert path.read_text() == "other"
        one.write_text("one")
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_processes_of_the_same_number_do_not_take_each_other_s_file(tmp_path: Path, monkeypatch) -> None:
    """As in two containers on one volume."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    errors, start = [], threading.Barrier(4)

    def write(number: int) -> None:
        start.wait()
        for _ in range(50):
            try:
                with replacing(tmp_path / "file") as partial:
                    partial.write_text(str(number) * 1000)
            except OSError as error:
                errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len(set((tmp_path / "file").read_text())) == 1


def test_what_a_killed_process_leaves_tells_whose_it_is(tmp_path: Path) -> None:
    with replacing(tmp_path / "file.json") as partial:
        assert re.fullmatch(rf"file\.json\.{os.getpid()}-[0-9a-f]{{8}}\.partial", partial.name)
        partial.touch()
