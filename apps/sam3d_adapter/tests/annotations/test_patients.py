"""Whose image it is."""

import json

import nibabel as nib
import numpy as np
import pytest

from lib.annotations.patients import PatientBook, PatientsError


def names(book, *images, info=None):
    return [book.patient_of(image, info or {}).name for image in images]


def test_patient_id_counts_before_all(tmp_path):
    (tmp_path / "patients.csv").write_text("image,patient\na,table\n")
    book = PatientBook(tmp_path, "(.)")
    patient = book.patient_of("a", {"PatientID": " MRN 7 "})
    assert patient.name == "MRN 7" and not patient.is_visible
    assert names(book, "a") == ["table"]


@pytest.mark.parametrize("nobody", ["UNK", "", "Anonymous", " anon ", None, 3])
def test_patient_id_of_nobody(nobody):
    assert names(PatientBook(), "1.2.3", "1.2.4", info={"PatientID": nobody}) == ["1.2.3", "1.2.4"]


def test_table(tmp_path):
    # As Excel writes it.
    (tmp_path / "patients.csv").write_text("\ufeffimage,patient,note\r\na.nii.gz, P 1 ,x\r\nb,P 1,\r\n", "utf-8")
    book = PatientBook(tmp_path, pattern="^([a-z])")
    assert names(book, "a", "b", "cx", "9") == ["P 1", "P 1", "c", "9"]
    assert not book.patient_of("a", {}).is_visible and book.patient_of("cx", {}).is_visible


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,patient\na,1\na.nii.gz,2\n", "two patients"),
        ("file,patient\na,1\n", "Line 2"),
        ("image,patient\na,\n", "Line 2"),
        ("a,1\nb,1\n", "first line"),
        (b"image,patient\na,\xff\n", "UTF-8"),
    ],
)
def test_table_that_cannot_be_trusted(tmp_path, content, words):
    (tmp_path / "patients.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PatientsError, match=words):
        PatientBook(tmp_path)


@pytest.mark.parametrize("above", [True, False])
def test_manifest_of_the_evaluation(tmp_path, above):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b"):
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), folder / f"{name}.nii.gz")
    prefix = "images/" if above else ""
    cases = [{"image": f"{prefix}{n}.nii.gz", "label": f"{prefix}{n}.nii.gz", "patient": "P"} for n in ("a", "b")]
    (tmp_path if above else folder).joinpath("manifest.json").write_text(json.dumps({"cases": cases}))
    assert names(PatientBook(folder), "a", "b", "c") == ["P", "P", "c"]


def test_manifest_of_something_else_is_passed_over(tmp_path, caplog):
    (tmp_path / "manifest.json").write_text('{"name": "web app"}')
    assert names(PatientBook(tmp_path), "a") == ["a"]
    assert "manifest.json was not used" in caplog.text


def test_pattern():
    assert names(PatientBook(pattern=r"^(\w+?)_\d+$"), "mueller_1", "mueller_2", "other") == ["mueller"] * 2 + ["other"]
    assert names(PatientBook(pattern=r"^[A-Z]+\d+"), "STS12-ct", "STS12-mr") == ["STS12"] * 2
    with pytest.raises(PatientsError, match="Correct it"):
        PatientBook(pattern="(")


def test_report_says_what_was_guessed(caplog):
    caplog.set_level("INFO")
    book = PatientBook(pattern="^(P.)")
    names(book, "P1a", "P1b", "x")
    assert "2 by patient_pattern" in book.report() and "patients.csv" in book.report()
    assert "1 by nothing but" in caplog.text
