"""Names of files by which MONAI Label loses images."""

import logging
import re
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore

from lib.host.file_names import report_file_names
from lib.host.log.privacy import clean
from tests.support.live_app import live_app
from tests.support.noise_site import copy_app
from tests.support.odd_series import make_series
from tests.support.pacs import Pacs, open_store

# ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")

DOCUMENT = Path(__file__).resolve().parents[4] / "docs/your-data.md"
GOOD = ("a.nii.gz", "b.nii", "c.nrrd", "d.e.nii", "nii.nii", "f.nii.nrrd", "1.2.840.nii.gz", "i.nii_j.nii.gz")
TWICE = ("a.nii", "b.nii.gz", "a.nrrd")
INSIDE = ("scan.nii_corr.nii", "g.nii.gz.nii.gz", "h.nrrd-2.nrrd", "k.nii.gz.nii")


def open_folder(folder: Path, names: tuple[str, ...]) -> LocalDatastore:
    """The data store of a server on a folder with these images."""
    folder.mkdir()
    for name in names:
        if name.endswith(".nrrd"):
            sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 2, 2), np.uint8)), str(folder / name))
        else:
            nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), folder / name)
    return LocalDatastore(str(folder), extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT, auto_reload=False)


def test_ordinary_names_are_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_folder(tmp_path / "studies", GOOD)
    with caplog.at_level(logging.WARNING, "lib.host.file_names"):
        assert report_file_names(store) == (0, 0)
    assert not caplog.records and len(store.list_images()) == len(GOOD)


def test_all_that_nobody_will_see_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_folder(tmp_path / "studies", GOOD + TWICE + INSIDE)
    with caplog.at_level(logging.WARNING, "lib.host.file_names"):
        assert report_file_names(store) == (len(TWICE), len(INSIDE))
    first, second = (record for record in caplog.records if record.name == "lib.host.file_names")
    for record, number in ((first, len(TWICE)), (second, len(INSIDE))):
        clean(record)
        assert f": {number}. Rename" in record.getMessage()
        assert "scan" not in record.getMessage()


def test_what_is_counted_is_what_cannot_be_read(tmp_path: Path) -> None:
    """MONAI Label as it is; the day this fails, the warning can go."""
    store = open_folder(tmp_path / "studies", GOOD + TWICE + INSIDE)
    served = {Path(store.get_image_uri(image)).name for image in store.list_images()}
    assert sum((tmp_path / "studies" / name).is_file() for name in served) == len(GOOD)


def test_the_commands_of_the_document_name_them(tmp_path: Path) -> None:
    open_folder(tmp_path / "studies", GOOD + TWICE + INSIDE)
    commands = re.findall(r"^ls studies \|.*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    same, inside = (
        subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
        for command in commands
    )
    assert same == ["a", "b"] and sorted(inside) == sorted(INSIDE)


def test_the_app_says_it_when_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("lib.host.file_names.logger.warning", lambda text, *values: said.append(text % values))
    open_folder(tmp_path / "studies", ("a.nii", "a.nii.gz"))
    with live_app(copy_app(tmp_path), tmp_path / "studies", tmp_path):
        pass
    assert len(said) == 1 and ": 1. Rename" in said[0]


def test_a_pacs_has_no_file_names(tmp_path: Path) -> None:
    assert report_file_names(open_store(Pacs(list(make_series().instances)), tmp_path)) == (0, 0)
