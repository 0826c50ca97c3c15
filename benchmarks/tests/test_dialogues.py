"""The interactions of a benchmark on a volume that is made up: a real evaluation, its rows, and the result file."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks import dialogues
from benchmarks.results import Result


def two_balls(folder: Path) -> None:
    """A CT with two bright balls, labelled 1 and 2."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    off = np.indices((40, 40, 40))
    labels = np.zeros((40, 40, 40), np.uint8)
    for value, middle in ((1, 12), (2, 28)):
        labels[((off - middle) ** 2).sum(axis=0) < 7**2] = value
    image = (np.random.default_rng(0).normal(0, 10, labels.shape) + 80 * (labels > 0)).astype(np.int16)
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "images" / "one.nii.gz")
    nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "labels" / "one.nii.gz")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_fills_a_result_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    data, file = tmp_path / "data", tmp_path / "result.json"
    two_balls(data)
    command = ["--data", f"balls=ct={data}", "--labels-are-objects", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["dialogues", *command, "--result", str(file)])
    dialogues.main()
    result = Result(**json.loads(file.read_text("utf-8")))
    assert "--data balls=ct=DATA" in result.command and str(tmp_path) not in file.read_text("utf-8")
    own = [row for row in result.rows if row["method"] == "sam3d_adapter"]
    assert [(row["first click"], row["n"], row["objects"]) for row in own] == [("centre", 1, 2), ("random", 1, 2)]
    assert all(isinstance(row["Dice at 10"], float) and 0.3 < row["Dice at 10"] <= 1 for row in own)
    for row in own:
        share, where = row["unsure at 1"], row["Dice at 1 where unsure"]
        assert isinstance(share, float) and (where is None) == (share == 0)
    assert {row["method"] for row in result.rows} >= {"ball", "ellipsoid in the image's middle"}
    assert "| balls | centre | sam3d_adapter |" in capsys.readouterr().out
