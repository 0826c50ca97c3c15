"""A small hospital whose rounds are short."""

from pathlib import Path

import pytest

from tests.support.hospital import Hospital, short_rounds

__all__ = ["hospital", "short_rounds"]


@pytest.fixture
def hospital(tmp_path: Path, short_rounds: None) -> Hospital:
    return Hospital(tmp_path)
