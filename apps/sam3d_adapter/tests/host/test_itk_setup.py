"""ITK prints no paths past Python's logging, and the first answer is not slower than the next for the writer's sake."""

import logging
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.host import itk_setup

APP = Path(__file__).parents[2]
READ = """
import sys, warnings
warnings.simplefilter("ignore")
if sys.argv[2] == "silent":
    from lib.host.itk_setup import silence_readers
    silence_readers()
import itk, SimpleITK
SimpleITK.ReadImage(sys.argv[1])
itk.imread(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["silent", "as the host does it"])
def test_paths_are_not_printed(tmp_path: Path, how: str) -> None:
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    image.set_sform(np.diag([3.0, 3, 3, 1]) + 0.3 * np.eye(4, k=1), 1)
    nib.save(image, path := tmp_path / "Mustermann_Erika.nii")
    done = subprocess.run([sys.executable, "-c", READ, path, how], cwd=APP, capture_output=True, text=True, timeout=100)
    assert ("Mustermann" in done.stdout + done.stderr) == (how != "silent")


def test_it_writes_with_the_hosts_own_writer(monkeypatch):
    written = []
    original = itk_setup.write_itk
    monkeypatch.setattr(itk_setup, "write_itk", lambda *a: (original(*a), written.append(a)))
    itk_setup.warm_up_writer()
    assert len(written) == 1


def test_a_failure_is_logged_and_no_more(monkeypatch, caplog):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(itk_setup, "write_itk", fail)
    with caplog.at_level(logging.WARNING):
        itk_setup.warm_up_writer()
    assert "disk full" in caplog.text
