"""The Python client away from a server; `integration/test_python_and_mitk.py` asks a real one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sam3d
from lib.host.process.launch import free_port
from tests.support.program import REPOSITORY


def test_it_needs_requests_nibabel_and_numpy_alone() -> None:
    code = (
        "import importlib.abc, sys\n"
        "absent = ('torch', 'monai', 'monailabel', 'scipy', 'matplotlib', 'fastapi', 'yaml', 'cryptography')\n"
        "class OnlyThese(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.partition('.')[0] in absent:\n"
        "            raise ImportError(f'{name} is not installed')\n"
        "sys.meta_path.insert(0, OnlyThese())\n"
        "import sam3d\n"
        "client = sam3d.Client('http://127.0.0.1:9')\n"
        "try:\n"
        "    client.status()\n"
        "except sam3d.ServerError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("No server answers at http://127.0.0.1:9 (")


def test_what_cannot_be_sent_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with sam3d.Client(url) as client:
        with pytest.raises(ValueError, match="no file or folder absent.nii.gz"):
            client.segment("ct", "absent.nii.gz", [(1, 1, 1)])
        with pytest.raises(ValueError, match="The image is an array without an affine"):
            client.segment("ct", np.zeros((4, 4, 4)), [(1, 1, 1)])
        with pytest.raises(ValueError, match="The mask is an array without an affine"):
            client.segment("ct", "case_1", [(1, 1, 1)], start_from=np.zeros((4, 4, 4)))
        with pytest.raises(ValueError, match="labels is missing; the name of the structure"):
            client.submit("case_1", tmp_path / "label.nii.gz")
        with pytest.raises(sam3d.ServerError, match=f"No server answers at {url} .*sam3d serve") as error:
            client.segment("ct", "case_1", [(1, 1, 1)])
        assert error.value.status is None
