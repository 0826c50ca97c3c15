"""``sam3d score``: what it says, and that it goes on where it was."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result

from lib.activelearning.coverage import vectors
from lib.workflow.database import database_beside
from lib.workflow.scores import WHOLE, scores_of_image
from sam3d.__main__ import main
from tests.support.small_app import copy_small_app

pytestmark = pytest.mark.slow


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # For the process of the tests it would last.
    monkeypatch.setattr(os, "nice", lambda by: by)
    return copy_small_app(tmp_path / "app", ("test", "unet"))


def score(app: Path, studies: Path, preset: str = "test") -> Result:
    arguments = ["score", "--preset", preset, "--studies", str(studies), "--device", "cpu"]
    return CliRunner().invoke(main, ["--app", str(app), *arguments])


def test_a_folder_is_scored_and_the_second_time_nothing_is_left_to_do(app: Path, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    image = np.random.default_rng(0).normal(40, 60, (20, 18, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(image, np.eye(4)), studies / "one.nii.gz")
    done = score(app, studies)
    assert done.exit_code == 0 and done.stdout.splitlines() == [
        "one: scored",
        "1 scored, 0 up to date, 0 without a score",
    ]
    with database_beside(studies).reading() as connection:
        found = scores_of_image(connection, "test", "one")[WHOLE]
    assert vectors({"one": found})["one"].ndim == 1
    (studies / "torn.nii.gz").write_bytes((studies / "one.nii.gz").read_bytes()[:-40])
    done = score(app, studies)
    assert done.exit_code == 1 and done.stdout.splitlines() == [
        "one: up_to_date",
        "torn: failed",
        "0 scored, 1 up to date, 1 without a score",
    ]
    done = score(app, studies, "unet")
    assert done.exit_code == 1 and "no features" in done.stderr and "Traceback" not in done.output


def test_what_cannot_be_meant_is_said(app: Path, tmp_path: Path) -> None:
    done = score(app, tmp_path / "nowhere")
    assert done.exit_code == 2 and "does not exist" in done.stderr
    done = score(app, tmp_path, "nope")
    assert done.exit_code == 2 and "nope" in done.stderr
