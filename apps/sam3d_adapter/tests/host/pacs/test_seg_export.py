"""Labels of a PACS as a set: DICOM slices and DICOM SEG that name nobody, and the other forms."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from click.testing import CliRunner, Result
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore

from lib.audit.log import AuditLog
from lib.host.workflow import Workflow
from sam3d.__main__ import main
from tests.support.dicom_study import Study
from tests.support.layered_labels import write_layers
from tests.support.odd_series import make_series
from tests.support.pacs import PacsWithSegs, open_store
from tests.support.server import APP_DIR

pytestmark = [
    pytest.mark.slow,
    # MONAI's, of a decoder for DICOM that is not installed; highdicom's, of what DICOM calls a patient's name.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
]


@pytest.fixture
def study() -> Study:
    return make_series(orientation="sagittal")


@pytest.fixture
def store(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DICOMWebDatastore:
    """A PACS whose one series has an accepted label of two segments that overlap."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    for one in study.instances:
        one.InstitutionName, one.AccessionNumber, one.StudyDate = "St. Elsewhere", "ACC 17", "20240229"
        one.add_new(0x00091010, "LO", "of the vendor")
    found = open_store(PacsWithSegs(list(study.instances)), tmp_path)
    monkeypatch.setattr("lib.host.pacs.open_pacs.open_pacs", lambda url: found)
    affine = nib.load(found.get_image_uri(study.series_uid)).affine
    layers = [mask.astype(np.uint8) for mask in masks().values()]
    path = write_layers(tmp_path / "label.seg.nrrd", layers, [(name, n, 1) for n, name in enumerate(masks())], affine)
    # As the server keeps it beside the DICOM SEG that it sends.
    LocalDatastore.save_label(found, study.series_uid, str(path), "final", {"author": "Dr. Roe", "model": "ct"})
    workflow = Workflow(tmp_path / "model")
    (label,) = workflow.read(found).labels
    workflow.review(found, label.id, "accept", "Dr. Poe", "")
    return found


def masks() -> dict[str, np.ndarray]:
    liver, lesion = np.zeros((2, 32, 32, 16), bool)
    liver[4:20, 5:18, 3:12] = lesion[8:12, 9:14, 6:9] = True
    return {"Leber": liver, "kidney tumor": lesion}


def run(tmp_path: Path, out: Path, layout: str, *words: str) -> Result:
    where = ["--studies", "http://pacs.test/dicom-web", "--by", "Dr. Jones"]
    where += ["--audit-dir", str(tmp_path / "audit"), "--learning-dir", str(tmp_path / "model")]
    return CliRunner().invoke(
        main, ["--app", str(APP_DIR), "labels", "export", str(out), "--format", layout, *where, *words]
    )


def in_order(instances: list[Any], study: Study) -> list[Any]:
    """Slices as they ascend."""
    return sorted(instances, key=lambda one: study.geometry.ijk([float(part) for part in one.ImagePositionPatient])[2])


def test_slices_and_segmentation_fit_each_other_and_name_nobody(
    store: DICOMWebDatastore, study: Study, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    done = run(tmp_path, out, "dicom-seg")
    assert done.exit_code == 0, done.output
    (entry,) = json.loads((out / "manifest.json").read_text())["cases"]
    slices = in_order([pydicom.dcmread(path) for path in (out / entry["image"]).iterdir()], study)
    for one, source in zip(slices, in_order(list(study.instances), study), strict=True):
        np.testing.assert_array_equal(one.pixel_array, source.pixel_array)
        assert one.ImagePositionPatient == source.ImagePositionPatient and one.PatientID == entry["patient"]
    seg = hd.seg.segread(out / entry["label"])
    assert {one.SeriesInstanceUID for one in slices} == {seg.ReferencedSeriesSequence[0].SeriesInstanceUID}
    pixels = seg.get_pixels_by_source_instance(
        [one.SOPInstanceUID for one in slices], ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    assert [item.SegmentLabel for item in seg.SegmentSequence] == list(masks())
    for rank, mask in enumerate(masks().values()):
        np.testing.assert_array_equal(pixels[..., rank].astype(bool).transpose(2, 1, 0), mask)
    assert seg.ContentCreatorName == entry["drawn_by"] and "Research use only" in seg.SeriesDescription
    left = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    source = study.instances[0]
    uids = [
        source[key].value for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    ]
    for name in ("ODD", "MRN 7", "Elsewhere", "ACC 17", "20240229", "vendor", "Roe", "Poe", "Jones", *uids):
        assert str(name).encode() not in left, name
    if shutil.which("dciodvfy"):
        for path in out.rglob("*.dcm"):
            said = subprocess.run(
                ["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False
            )
            assert [line for line in said.stderr.splitlines() if line.startswith("Error")] == []
    key = json.loads((tmp_path / "set.key.json").read_text())
    assert key["cases"][entry["case"]]["image"] == study.series_uid
    assert key["readers"][entry["accepted_by"]] == "Dr. Poe"
    (record,) = [one for one in AuditLog(tmp_path / "audit", 2**20).records() if one["label"] == "export"]
    assert record["archive_sha256"] == key["manifest_sha256"]


def test_names_that_are_kept(store: DICOMWebDatastore, study: Study, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert run(tmp_path, out, "dicom-seg", "--identified").exit_code == 0
    seg = pydicom.dcmread(out / f"segs/{study.series_uid}.dcm")
    assert seg.PatientName == "ODD" and seg.ReferencedSeriesSequence[0].SeriesInstanceUID == study.series_uid


def test_the_other_forms(store: DICOMWebDatastore, study: Study, tmp_path: Path) -> None:
    out = tmp_path / "Dataset005_Lesions"
    assert "its segments overlap" in str(run(tmp_path, out, "nnunet").exception.__cause__)
    assert not out.exists()
    done = run(tmp_path, out, "nnunet", "--preset", "kits")
    assert done.exit_code == 0, done.output
    (entry,) = json.loads((out / "manifest.json").read_text())["cases"]
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(out / entry["label"]))).transpose()
    np.testing.assert_array_equal(label, masks()["kidney tumor"])
    assert entry["modality"] == "CT" and json.loads((out / "dataset.json").read_text())["channel_names"] == {"0": "CT"}
