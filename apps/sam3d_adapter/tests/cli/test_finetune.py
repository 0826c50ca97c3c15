"""``sam3d finetune``: as the train button, alone and by two processes; wrong arguments are said."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.hospital import Hospital
from tests.support.program import sam3d


def command(hospital: Hospital, *options: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    options = ("--preset", "test", "--device", "cpu", "--learning-dir", str(hospital.folder / "learning"), *options)
    return sam3d(
        "finetune",
        *options,
        app=hospital.app,
        launcher=torchrun if processes > 1 else (),
        env={"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_process_and_two(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    hospital.submit(3)
    studies = ("--studies", str(hospital.studies))
    for number, processes in enumerate((1, 2), start=1):
        options = ("--max-epochs", "1", "--started-by", "script", "--fresh", "true")
        done = command(hospital, *studies, *options, processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
        outcome = json.loads(done.stdout)
        versions = hospital.versions.versions()
        assert len(versions) == number and outcome["version"] == versions[-1].id and not outcome["published"]
        assert versions[-1].started_by == "script" and versions[-1].metrics["cases"]["train"] == 2
        curve = json.loads((hospital.versions.path(versions[-1].id) / "curve.json").read_text())
        assert curve[-1]["step"] == 50


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wrong_arguments_are_said(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    for options, words in (
        (("--studies", str(tmp_path / "nowhere")), "does not exist"),
        (("--studies", str(hospital.studies), "--max-epochs", "x"), "max_epochs"),
        (("--studies", str(hospital.studies), "--preset", "none"), "Unknown preset"),
        (("--studies", str(hospital.studies), "--train-on", "all"), "train_on"),
    ):
        done = command(hospital, *options)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    done = command(hospital, "--studies", str(hospital.studies))
    assert done.returncode == 1 and "no submitted label" in json.loads(done.stdout)["reasons"][0]
    (hospital.app / "weights/test_weights.safetensors").unlink()
    done = command(hospital, "--studies", str(hospital.studies))
    assert done.returncode == 1 and "has no weights" in done.stderr and "Traceback" not in done.stderr, done.stderr
