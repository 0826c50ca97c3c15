"""From what a viewer saves, through the real application, to what training reads."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
import SimpleITK as sitk
from monailabel.interfaces.utils.app import app_instance

from lib.annotations.patients import PatientBook
from lib.annotations.real_clicks import answers_on, costs, read_real_clicks
from lib.annotations.splits import Splits
from lib.annotations.submitted import Learner, Submitted, read_submitted
from lib.annotations.submitted_set import SubmittedDataSet
from lib.audit.log import AuditLog
from lib.host.saved_labels import saved_labels, studies_folder
from lib.host.studies_datastore import StudiesDatastore
from lib.presets import Preset, load_preset
from lib.prompts.click import Click
from tests.support.live_app import LiveApp
from tests.support.noise_site import AFFINE, CLICK, SECOND_CLICK, SHAPE

pytestmark = [
    pytest.mark.timeout(300),
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
]

KIDNEY, TUMOR = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
KIDNEY[4:30, 6:30, 4:20] = True
TUMOR[12:20, 10:18, 8:12] = True
SEGMENTS = [{"name": "kidney", "idx": 2}, {"name": "Kidney_Tumor", "idx": 3}]
LABELS = KIDNEY.astype(np.uint8) + TUMOR


@pytest.fixture(autouse=True)
def _clean(live: LiveApp) -> Any:
    yield
    for label in (live.studies / "labels/final").iterdir():
        label.unlink()
    app_instance().datastore().refresh()


def put(live: LiveApp, image: str, file: Path, segments: object = None, tag: str = "final") -> None:
    body = {"params": json.dumps({"label_info": segments} if segments is not None else {})}
    query = {"image": image, "tag": tag}
    with file.open("rb") as content:
        files = {"label": (file.name, content)}
        answer = requests.put(f"{live.url}/datastore/label", params=query, data=body, files=files, timeout=60)
    assert answer.status_code == 200, answer.text


def nifti(folder: Path, labels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(labels, affine), folder / "label.nii.gz")
    return folder / "label.nii.gz"


def nrrd(folder: Path, labels: np.ndarray, name: str, texts: dict[str, str] | None = None) -> Path:
    image = sitk.GetImageFromArray(labels.transpose())
    image.CopyInformation(sitk.ReadImage(str(nifti(folder, labels))))
    for key, text in (texts or {}).items():
        image.SetMetaData(key, text)
    sitk.WriteImage(image, str(folder / name), True)
    return folder / name


def preset(live: LiveApp, name: str) -> Preset:
    return load_preset(live.folder / f"app/configs/{name}.yaml")


def read(live: LiveApp, name: str = "kits", **options: Any) -> Submitted:
    """As training does, in another process: with a data store of its own."""
    store = StudiesDatastore(str(live.studies))
    book = PatientBook(studies_folder(store))
    return read_submitted(saved_labels(store), Learner(preset(live, name), **options), book.patient_of)


@pytest.mark.parametrize("name", ["label.nii.gz", "label.nrrd", "label.seg.nrrd"])
def test_what_slicer_saves(live: LiveApp, tmp_path: Path, name: str) -> None:
    file = nifti(tmp_path, LABELS) if name.endswith(".nii.gz") else nrrd(tmp_path, LABELS, name)
    put(live, "case_1", file, SEGMENTS)
    submitted = read(live)
    assert submitted.skipped == ()
    (case,) = submitted.cases
    assert case.image_id == "case_1" and case.image == live.studies / "case_1.nii.gz"
    volume = case.read()
    np.testing.assert_array_equal(volume.labels == 1, TUMOR)
    np.testing.assert_array_equal(volume.image, np.asarray(nib.load(case.image).dataobj))
    assert read(live, "test").cases[0].names == ("kidney", "Kidney_Tumor")
    assert SubmittedDataSet([case], preset(live, "kits")).draw(np.random.default_rng(0))[1] == 1


def test_segmentation_with_names_of_its_own(live: LiveApp, tmp_path: Path) -> None:
    texts = {
        "Segment0_Name": "Kidney Tumor", "Segment0_LabelValue": "2", "Segment0_Layer": "0",
        "Segment1_Name": "kidney", "Segment1_LabelValue": "1", "Segment1_Layer": "0",
    }  # fmt: skip
    put(live, "case_1", nrrd(tmp_path, LABELS, "a.seg.nrrd", texts))
    np.testing.assert_array_equal(read(live).cases[0].read().labels == 1, TUMOR)


def test_label_saved_again_and_in_another_format_counts_once(live: LiveApp, tmp_path: Path) -> None:
    put(live, "case_1", nrrd(tmp_path, LABELS, "a.nrrd"), SEGMENTS)
    put(live, "case_1", nifti(tmp_path, TUMOR.astype(np.uint8)), SEGMENTS[1:])
    (case,) = read(live).cases
    np.testing.assert_array_equal(case.read().labels == 1, TUMOR)
    assert read(live, "test").cases[0].names == ("Kidney_Tumor",)


def test_other_grids_empties_and_other_tags(live: LiveApp, tmp_path: Path) -> None:
    flip = np.diag([1.0, 1, -1, 1])
    flip[2, 3] = SHAPE[2] - 1
    put(live, "case_1", nifti(tmp_path, np.flip(LABELS, 2), AFFINE @ flip), SEGMENTS)
    put(live, "case_2", nifti(tmp_path, LABELS * 0), SEGMENTS)
    put(live, "case_2", nifti(tmp_path, LABELS), SEGMENTS, tag="original")
    submitted = read(live)
    (case,) = submitted.cases
    np.testing.assert_array_equal(case.read().labels == 1, TUMOR)
    reasons = {skipped.image_id: skipped.reason for skipped in submitted.skipped}
    assert reasons == {"case_2": "it is empty"}


def test_label_laid_into_the_folder_by_hand(live: LiveApp, tmp_path: Path) -> None:
    file = nifti(tmp_path, TUMOR.astype(np.uint8))
    (live.studies / "labels/final/case_2.nii.gz").write_bytes(file.read_bytes())
    (case,) = read(live).cases
    assert case.image_id == "case_2" and case.names == ("kidney tumor",)
    # Without names, and of several values, the server itself takes none.
    nifti(live.studies / "labels/final", LABELS).rename(live.studies / "labels/final/case_2.nii.gz")
    assert "no names" in read(live).skipped[0].reason


def test_patients_beside_the_images(live: LiveApp, tmp_path: Path) -> None:
    (live.studies / "patients.csv").write_text("image,patient\ncase_1,Erika\ncase_2.nii.gz,Erika\n")
    try:
        for image in ("case_1", "case_2"):
            put(live, image, nifti(tmp_path, LABELS), SEGMENTS)
        cases = read(live).cases
        sides = Splits(tmp_path).assign({case.image_id: case.patient for case in cases})
        assert sides == {"case_1": "train", "case_2": "train"}
        assert Splits(tmp_path).counts() == {"train": 1, "validation": 0}
    finally:
        (live.studies / "patients.csv").unlink()


def infer(live: LiveApp, **params: Any) -> bytes:
    answer = live.infer({"result_extension": ".nii.gz", **params}, output="image")
    assert answer.status_code == 200, answer.text
    return answer.content


def test_clicks_behind_a_label(live: LiveApp, tmp_path: Path) -> None:
    infer(live, foreground=[CLICK])
    beside = [40, 35, 20]
    infer(live, foreground=[CLICK], background=[beside])
    mask = tmp_path / "mask.nii.gz"
    mask.write_bytes(infer(live, foreground=[CLICK, SECOND_CLICK], background=[beside]))
    assert np.asarray(nib.load(mask).dataobj).any()
    put(live, "case_1", mask, [{"name": "lesion", "idx": 1}])
    log = AuditLog(live.folder / "app/logs/audit", 2**29)
    cases = read(live, "test").cases
    (found,) = read_real_clicks(log, cases, "test")["case_1"]
    assert found.clicks == (Click((*CLICK,)), Click((*beside,), False), Click((*SECOND_CLICK,)))
    assert found.is_exact and found.is_accepted and 0 <= found.seconds < 60
    assert costs({"case_1": (found,)})[found.model_version].median_clicks == 3
    answers = answers_on(log, ["case_1", "case_2"])
    assert set(answers) == {"case_1"} and {answer.preset for answer in answers["case_1"]} == {"test"}
    presets = {name: preset(live, name) for name in ("test", "ct", "mr")}
    assert len(read(live, "ct", answers=answers, presets=presets).cases) == 1
    assert "made with test" in read(live, "mr", answers=answers, presets=presets).skipped[0].reason


def test_mask_that_the_server_saved_itself(live: LiveApp) -> None:
    infer(live, foreground=[CLICK], save_label=True, label_tag="final")
    (case,) = read(live, "test").cases
    assert case.names == ("lesion",)
    log = AuditLog(live.folder / "app/logs/audit", 2**29)
    assert any(found.is_exact for found in read_real_clicks(log, [case], "test")["case_1"])
