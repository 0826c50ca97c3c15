"""The modality that DICOM names."""

from pathlib import Path

import pytest

from lib.volumes.modality import source_modality
from tests.support.odd_series import as_file, make_series


@pytest.mark.parametrize(
    ("tag", "expected"), [("CT", "CT"), ("MR", "MR"), ("PT", "PET"), ("NM", "NM"), ("OT", None), ("", None)]
)
def test_of_a_folder_a_file_and_the_nifti_beside(tmp_path: Path, tag: str, expected: str | None) -> None:
    folder = tmp_path / "1.2.3"
    folder.mkdir()
    for rank, instance in enumerate(make_series().instances[:2]):
        instance.Modality = tag
        (folder / f"{rank}.dcm").write_bytes(as_file(instance))
    nifti = tmp_path / "1.2.3.nii.gz"
    nifti.write_bytes(b"")
    for path in (folder, folder / "0.dcm", nifti):
        assert source_modality(path) == expected


def test_nothing_says(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.dcm").write_bytes(b"no DICOM")
    for name in ("empty", "damaged.dcm", "scan.nii.gz", "scan.nrrd", "absent.dcm"):
        assert source_modality(tmp_path / name) is None
