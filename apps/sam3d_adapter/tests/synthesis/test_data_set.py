"""The command writes one file per seed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lib.synthesis import data_set


def test_command_writes_files_and_keeps_them(label_maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    command = ["data_set", "--label-maps", str(label_maps), "--out", str(out), "--modality", "pet"]
    monkeypatch.setattr(sys, "argv", [*command, "--first", "7", "--count", "2"])
    data_set.main()
    files = sorted(out.iterdir())
    assert [file.name for file in files] == ["000007.npz", "000008.npz"]
    with np.load(files[0]) as arrays:
        assert arrays["image"].shape == arrays["labels"].shape
        assert arrays["affine"].shape == (4, 4)
        assert len(arrays["objects"]) == len(arrays["weights"]) > 0
        assert arrays["objects"].max() <= arrays["labels"].max()
    before = [file.stat().st_mtime_ns for file in files]
    data_set.main()
    assert [file.stat().st_mtime_ns for file in files] == before
