"""A small hospital whose rounds are short."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lib.learning import candidate
from lib.trainers import train_task
from tests.support.hospital import Hospital


@pytest.fixture
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few steps, and no lower priority for all the tests that follow."""
    monkeypatch.setattr(candidate, "STEPS_PER_EPOCH", 2)
    monkeypatch.setattr(candidate, "VALIDATION_BATCHES", 1)
    monkeypatch.setattr(candidate, "WORKERS", 0)
    monkeypatch.setattr(train_task, "lower_priority", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})  # threads of one small model only wait for each other
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def hospital(tmp_path: Path, short_rounds: None) -> Hospital:
    return Hospital(tmp_path)
