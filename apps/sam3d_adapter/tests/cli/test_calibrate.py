"""``sam3d calibrate``: what it says, and what it refuses."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lib.learning.calibrate import Calibrating
from lib.serving.predicted_dice import Calibration, Line
from sam3d.__main__ import main
from tests.support.hospital import Hospital

pytestmark = pytest.mark.slow


def asked(hospital: Hospital, *more: str, studies: Path | None = None, preset: str = "test") -> Result:
    folder = str(studies or hospital.studies)
    arguments = ["calibrate", "--preset", preset, "--studies", folder, "--learning-dir", str(hospital.folder / "learn")]
    return CliRunner().invoke(main, ["--app", str(hospital.app), *arguments, *more])


def test_it_says_from_how_many_patients_or_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = Hospital(tmp_path)
    hospital.submit(2)
    done = asked(hospital)
    assert done.exit_code == 1 and "2 labelled patients" in done.stderr and "20 are needed" in done.stderr
    monkeypatch.setattr(Calibrating, "__call__", lambda self: Calibration("", len(self.cases), (Line(0, 0, 0),)))
    done = asked(hospital, "--device", "cpu")
    assert done.exit_code == 0 and done.stdout == "Dice is predicted from 2 patients.\n"
    # Nobody has accepted a label.
    assert asked(hospital, "--train-on", "accepted").stdout == "Dice is predicted from 0 patients.\n"


def test_what_cannot_be_meant_is_said(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    done = asked(hospital, studies=tmp_path / "nowhere")
    assert done.exit_code == 2 and "does not exist" in done.stderr
    assert asked(hospital, preset="nope").exit_code == 2
    assert asked(hospital, "--device", "tpu").exit_code == 2
