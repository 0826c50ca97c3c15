"""The ablation of the losses: a whole run ends in a table, goes on where it stopped, and refuses to mix runs."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks import slice_losses

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """Five volumes of five slices; the last one is evaluated."""
    folder = tmp_path / "blocks"
    for number in range(5):
        truth = np.zeros((16, 16, 5), np.uint8)
        truth[4 + number : 12, 5:11, 1:4] = 1
        values = (100 * truth + np.random.default_rng(number).normal(0, 10, truth.shape)).astype(np.int16)
        for kind, array in (("images", values), ("labels", truth)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 4.0, 1.0])), folder / kind / f"case_{number}.nii.gz")
    return folder


def test_a_whole_run(
    size: str, blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*more: str) -> str:
        command = ["slice_losses", "--data-set", f"ct={blocks}", "--size", size, "--seeds", "1", "--batch", "1"]
        monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path / "out"), *more])
        slice_losses.main()
        return capsys.readouterr().out

    evaluated = slice_losses.evaluated

    def stopped(data: object, weights: Path, out: Path, arguments: object) -> list:
        if "boundary" in str(out):
            raise KeyboardInterrupt
        return evaluated(data, weights, out, arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(slice_losses, "evaluated", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("--steps", "1")
    so_far = json.loads((tmp_path / "out/slice_losses.json").read_text())
    assert [row["losses"] for row in so_far] == ["none", "position"]
    files = sorted((tmp_path / "out").rglob("weights.safetensors"))
    made = [file.stat().st_mtime_ns for file in files]
    monkeypatch.setattr(slice_losses, "evaluated", evaluated)
    table = run("--steps", "1")
    rows = json.loads((tmp_path / "out/slice_losses.json").read_text())
    assert [row["losses"] for row in rows] == list(slice_losses.VARIANTS) and {row["patients"] for row in rows} == {1}
    assert len(files) == 3 and [file.stat().st_mtime_ns for file in files] == made
    assert all(f"| blocks | {variant} | 1 | 1 |" in table for variant in slice_losses.VARIANTS)
    with pytest.raises(SystemExit, match="of another run"):
        run("--steps", "2")
