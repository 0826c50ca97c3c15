"""The families side by side: a whole run ends in two tables, and the same command again measures nothing twice."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sam2.modeling.sam2_base import SAM2Base

from benchmarks import families
from lib.families.sam2.network import save_network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_whole_run(size: str, model: SAM2Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        truth = np.zeros((24, 24, 8), np.uint8)
        truth[6:16, 8:18, 2:6] = 1
        values = (100 * truth + np.random.default_rng(number).normal(0, 10, truth.shape)).astype(np.int16)
        for kind, array in (("images", values), ("labels", truth)):
            (tmp_path / "blocks" / kind).mkdir(parents=True, exist_ok=True)
            file = tmp_path / "blocks" / kind / f"case_{number}.nii.gz"
            nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 4.0, 1.0])), file)
    weights = tmp_path / "nano.safetensors"
    save_network(model, weights, size, {"source": "random"})
    monkeypatch.setitem(families.SIZES, families.MICRO, size)
    # Processes of their own know no size of the tests, and a click with SAM 2.1 tiny takes too long for one.
    monkeypatch.setattr(families, "SHORT", ())
    monkeypatch.setattr(families, "COSTED", (families.TINY,))
    command = ["families", "--data", f"blocks=ct={tmp_path / 'blocks'}", "--micro", str(weights), "--cases", "1"]
    command += ["--slices", "10", "--out", str(tmp_path / "out"), "--result", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", command)
    families.main()
    written = {name: json.loads((tmp_path / f"results/{name}.json").read_text())["rows"] for name in families.TABLES}
    told = [(row["model"], row["first click"]) for row in written["families"]]
    assert told == [
        *((name, mode) for name in (families.TINY, families.MICRO) for mode in ("centre", "random")),
        (families.SAM2_TINY, families.NOT_MEASURED),
    ]
    assert all(row["Dice at 1"] > 0.5 for row in written["families"][:2])
    tracked = written["families"][2]
    assert tracked["patients"] == 1 and len(tracked["Dice by click"].split()) == 10
    assert tracked["first click s"] > 0 and {"least mean change a click", "drop rate"} <= tracked.keys()
    (cost,) = written["families_cost"]
    assert cost["slices"] == 10 and cost["peak MiB"] >= cost["of it image and weights MiB"] > 0
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    families.main()
    assert {path: path.stat().st_mtime_ns for path in made} == made
