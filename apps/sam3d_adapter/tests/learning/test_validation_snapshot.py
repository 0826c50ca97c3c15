"""What a run is measured on: as it was when the run began, named by nobody, for the server's user alone."""

import hashlib
import os
import stat
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from lib.annotations.patients import Patient, PatientBook
from lib.annotations.submitted import Learner, SavedLabel, read_submitted
from lib.evaluation.cases import inspect, read_truth
from lib.learning.validation_snapshot import (
    MAX_PATIENTS,
    on_common_cases,
    remove_validation_snapshot,
    save_validation_snapshot,
    snapshot_sources,
    snapshot_structures,
)
from lib.presets import load_preset
from tests.support.layered_labels import write_layers
from tests.support.server import APP_DIR

CT = load_preset(APP_DIR / "configs/ct.yaml")
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def pseudonym(name: str) -> str:
    return hashlib.sha256(f"secret {name}".encode()).hexdigest()[:32]


def saved(folder, name: str, *values: int, ending: str = ".nii.gz") -> SavedLabel:
    labels = np.zeros((20, 18, 16), np.uint8)
    for value in values:
        labels[4 * value : 4 * value + 3, 5:10, 5:10] = value
    image = np.random.default_rng(len(values)).normal(0, 10, labels.shape).astype(np.int16)
    paths = folder / f"{name}{ending}", folder / f"label_{name}.nii.gz"
    for path, array in zip(paths, (image, labels), strict=True):
        nib.save(nib.Nifti1Image(array, AFFINE), path)
    return SavedLabel(name, *paths, {"label_info": [{"name": f"organ {value}"} for value in values]})


@pytest.fixture
def cases(tmp_path):
    (tmp_path / "data").mkdir()
    labels = [saved(tmp_path / "data", "1.2.840.7", 1), saved(tmp_path / "data", "Doe_John", 1, 2, ending=".NII")]
    return read_submitted(labels, Learner(CT), PatientBook().patient_of).cases


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_every_object_is_as_it_was_whatever_happened_since(cases, run):
    save_validation_snapshot(run, cases, pseudonym)
    truths = {case.image_id: case.read_labels() for case in cases}
    for case in cases:
        case.label.unlink()
        case.image.unlink()
    sources = snapshot_sources(run, cases, pseudonym, "ct")
    assert len(sources) == 3 and {source.dataset for source in sources} == {"ct"}
    found = {case.id: case for source in sources for case in inspect(source)[0]}
    one, several = (pseudonym(name) for name in ("1.2.840.7", "Doe_John"))
    assert set(found) == {one, f"{several}/1", f"{several}/2"}
    np.testing.assert_array_equal(read_truth(found[one]), truths["1.2.840.7"] == 1)
    for value in (1, 2):
        np.testing.assert_array_equal(read_truth(found[f"{several}/{value}"]), truths["Doe_John"] == value)


def test_the_structure_of_each_object_is_known_by_its_id(cases, run):
    save_validation_snapshot(run, cases, pseudonym)
    found = {case.id for source in snapshot_sources(run, cases, pseudonym, "ct") for case in inspect(source)[0]}
    one, several = (pseudonym(name) for name in ("1.2.840.7", "Doe_John"))
    structures = snapshot_structures(cases, pseudonym)
    assert structures == {one: "organ", f"{several}/1": "organ", f"{several}/2": "organ"} and set(structures) == found


def test_overlapping_objects_are_whole(tmp_path, run):
    (tmp_path / "data").mkdir()
    label = saved(tmp_path / "data", "a", 1)
    masks = np.zeros((2, 20, 18, 16), np.uint8)
    masks[0, 2:9, 5:10, 5:10], masks[1, 6:15, 5:10, 3:8] = 1, 1
    path = write_layers(tmp_path / "data/a.seg.nrrd", masks, [("lesion", 0, 1), ("organ", 1, 1)], AFFINE)
    (case,) = read_submitted([replace(label, label=path)], Learner(CT), PatientBook().patient_of).cases
    save_validation_snapshot(run, [case], pseudonym)
    sources = snapshot_sources(run, [case], pseudonym, "ct")
    found = [case for source in sources for case in inspect(source)[0]]
    assert [each.id for each in found] == [f"{pseudonym('a')}/{value}" for value in (1, 2)]
    for each, mask in zip(found, masks, strict=True):
        np.testing.assert_array_equal(read_truth(each), mask > 0)


def test_nothing_names_a_patient_or_an_image(cases, run):
    cases = [replace(case, patient=Patient("Doe^John 4711", "DICOM PatientID")) for case in cases]
    save_validation_snapshot(run, cases, pseudonym)
    told = [str(path.relative_to(run)) for path in run.rglob("*")]
    told += [str(source) for source in snapshot_sources(run, cases, pseudonym, "ct")]
    assert len(told) > 6 and not any(name in text for text in told for name in ("Doe", "1.2.840.7", "4711"))
    assert {source.patient for source in snapshot_sources(run, cases, pseudonym, "ct")} == {pseudonym("Doe^John 4711")}
    assert stat.S_IMODE((run / "validation").stat().st_mode) == 0o700


def test_it_is_kept_once(cases, run):
    save_validation_snapshot(run, cases, pseudonym)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    (run / "measured").mkdir()
    cases[0].label.unlink()
    save_validation_snapshot(run, cases, pseudonym)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if "measured" not in str(path)} == before
    assert (run / "measured").is_dir()


def test_what_was_measured_on_others_is_removed(cases, run):
    save_validation_snapshot(run, cases[:1], pseudonym)
    (run / "measured/candidate").mkdir(parents=True)
    remove_validation_snapshot(run)
    save_validation_snapshot(run, cases, pseudonym)
    assert not (run / "measured").exists() and len(snapshot_sources(run, cases, pseudonym, "ct")) == 3


def test_a_disk_that_is_full_half_way_leaves_nothing_that_counts(cases, run, monkeypatch):
    real, written = os.fsync, []

    def full(fd):
        written.append(fd)
        if len(written) > 2:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_validation_snapshot(run, cases, pseudonym)
    monkeypatch.setattr(os, "fsync", real)
    assert snapshot_sources(run, cases, pseudonym, "ct") == []
    save_validation_snapshot(run, cases, pseudonym)
    assert len(snapshot_sources(run, cases, pseudonym, "ct")) == 3
    assert [path.name for path in run.iterdir()] == ["validation"]


def test_a_label_that_was_replaced_before_the_run_began_is_left_out(cases, run, caplog):
    cases[0].label.write_bytes(cases[1].label.read_bytes())
    save_validation_snapshot(run, cases, pseudonym)
    assert len(snapshot_sources(run, cases, pseudonym, "ct")) == 2 and "is not validated on" in caplog.text


def test_no_more_patients_than_are_needed(cases, run):
    many = [
        replace(cases[0], image_id=str(n), patient=Patient(str(n), ""), image_sha256=f"{n:064x}")
        for n in range(MAX_PATIENTS + 3)
    ]
    save_validation_snapshot(run, [*many, replace(many[5], image_id="again", image_sha256="f" * 64)], pseudonym)
    assert len(list((run / "validation").iterdir())) == MAX_PATIENTS + 1


def test_a_rare_structure_is_measured_among_many_patients(cases, run):
    def of(structure: str, first: int, count: int) -> list:
        return [
            replace(
                cases[0], image_id=str(n), patient=Patient(str(n), ""), image_sha256=f"{n:064x}", names=(structure,)
            )
            for n in range(first, first + count)
        ]

    save_validation_snapshot(run, [*of("organ", 0, MAX_PATIENTS), *of("tumour 2", MAX_PATIENTS, 3)], pseudonym)
    kept = {path.name for path in (run / "validation").iterdir()}
    assert len(kept) == MAX_PATIENTS and {pseudonym(str(MAX_PATIENTS + n)) for n in range(3)} <= kept


def test_records_of_files_that_one_model_was_not_measured_on_do_not_count(run):
    def record(case: str, data: str = "d") -> dict:
        return {"case": case, "mode": "centre", "seed": 1, "data_sha256": data}

    records = {"candidate": [record("a"), record("b/1"), record("c")], "served": [record("c", "other"), record("b/1")]}
    assert on_common_cases(run, records) == {"candidate": [record("b/1")], "served": [record("b/1")]}
    (run / "validation/b").mkdir(parents=True)
    (run / "validation/b/image.nii.gz").symlink_to(run / "gone.nii.gz")
    assert on_common_cases(run, records) == {} == on_common_cases(run, {})
