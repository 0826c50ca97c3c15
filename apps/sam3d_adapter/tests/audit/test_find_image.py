"""A record's image is found by its content, under whatever name."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.audit import find_image as module
from lib.audit.find_image import find_image
from lib.volumes.read import read_volume


def write(path: Path, seed: int) -> str:
    path.parent.mkdir(exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 100, (4, 5, 6)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return read_volume(path).content_key


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(module, "read_volume", lambda path: (names.append(path.name), read_volume(path))[1])
    return names


def test_by_content_in_subfolders_past_broken_files(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("no image")
    write(tmp_path / "b.nii.gz", 1)
    wanted = write(tmp_path / "sub" / "renamed.nii", 2)
    assert find_image(tmp_path, wanted) == tmp_path / "sub" / "renamed.nii"
    assert find_image(tmp_path, "0" * 64) is None


def test_the_file_of_the_recorded_name_is_looked_at_first(tmp_path: Path, read: list[str]) -> None:
    for seed, name in enumerate(("a.nii.gz", "b.nii.gz", "z.1.nii.gz")):
        wanted = write(tmp_path / name, seed)
    assert find_image(tmp_path, wanted, is_name=lambda name: name == "z.1") == tmp_path / "z.1.nii.gz"
    assert read == ["z.1.nii.gz"]
