"""Registries with small files in them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lib.registry.registry import Registry
from lib.registry.version import Facts
from lib.registry.versions import Versions

WriteWeights = Callable[[int], Path]


@pytest.fixture
def write_weights(tmp_path: Path) -> WriteWeights:
    """Writes a safetensors file; other numbers, other weights."""

    def write(number: int) -> Path:
        path = tmp_path / f"weights_{number}.safetensors"
        save_file({"a": np.arange(8.0) + number}, path, metadata={"base_sha256": "ab" * 32})
        return path

    return write


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    """Of preset ct, in a folder that does not exist yet."""
    return Registry(tmp_path / "learning").of("ct", "tiny")


@pytest.fixture
def ids(versions: Versions, write_weights: WriteWeights) -> list[str]:
    """Four versions, none published; each with the one before as its parent."""
    found: list[str] = []
    for number in range(4):
        facts = Facts("training", parent=found[-1] if found else "shipped", metrics={"dice": number / 10})
        found.append(versions.add(write_weights(number), facts).id)
    return found
