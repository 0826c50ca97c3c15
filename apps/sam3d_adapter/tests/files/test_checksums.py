"""Checksums of files, and of what is copied."""

import hashlib
from pathlib import Path

import pytest

from lib.files.checksums import copy_with_sha256, file_sha256


def test_a_copy_has_the_checksum_that_is_returned(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 5000)  # more than one chunk
    expected = hashlib.sha256(source.read_bytes()).hexdigest()
    assert copy_with_sha256(source, target) == (expected, source.stat().st_size)
    assert file_sha256(target) == file_sha256(source) == expected


def test_a_copy_replaces_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        copy_with_sha256(source, target)
    assert target.read_bytes() == b"old"
