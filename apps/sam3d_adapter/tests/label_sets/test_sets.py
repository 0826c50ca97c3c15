"""Labels exported from a folder of studies, read by programs that know nothing of this one, and taken in again."""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner, Result

from lib.audit.log import AuditLog
from lib.host.studies_datastore import StudiesDatastore
from lib.host.workflow import Workflow
from lib.label_sets.layouts import folds_of
from lib.studies.folder import StudiesFolder
from lib.studies.label_changes import By
from sam3d.__main__ import main
from tests.support.layered_labels import write_layers
from tests.support.server import APP_DIR

pytestmark = [
    pytest.mark.slow,
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
]
SECRET = "Mueller^Erika"
READERS = ("Dr. Roe", "Dr. Poe")
SHAPE = (12, 10, 8)
COS, SIN = np.cos(0.1), np.sin(0.1)
AFFINE = np.array([[-1, 0, 0, 40], [0, COS, -SIN, -20], [0, SIN, COS, 300], [0, 0, 0, 1]]) @ np.diag([0.8, 0.7, 2.5, 1])
SET = "Dataset101_Lesions"


def image(folder: Path, name: str, seed: int) -> None:
    """As a hospital may have it: the patient's name in the header, and in the extension behind it."""
    voxels = np.random.default_rng(seed).integers(-500, 900, SHAPE).astype(np.int16)
    found = nib.Nifti1Image(voxels, AFFINE)
    for key in ("descrip", "db_name", "aux_file", "intent_name"):
        found.header[key] = SECRET.encode()
    found.header.extensions.append(nib.nifti1.Nifti1Extension("comment", SECRET.encode()))
    nib.save(found, folder / f"{name}.nii.gz")


def drawn(seed: int, values: tuple[int, ...] = (1,)) -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values):
        voxels[1 + 3 * place : 3 + 3 * place, 2 + seed % 3 : 7, 2:6] = value
    return voxels


def submit(studies: StudiesFolder, name: str, voxels: np.ndarray, names: tuple[str, ...], by: str = READERS[0]) -> None:
    path = studies.path.parent / "label.nii.gz"
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    info = {"author": by, "label_info": [{"name": one, "idx": n} for n, one in enumerate(names, start=1)]}
    studies.save_label(name, "final", ".nii.gz", path, info, By(by))


@pytest.fixture
def studies(tmp_path: Path) -> StudiesFolder:
    """Five patients, the first with two images; the label of the last one was rejected, those of two are accepted."""
    folder = tmp_path / "hospital" / "studies"
    folder.mkdir(parents=True)
    table = ["image,patient,modality"]
    for number in range(6):
        name = f"{SECRET}_{number}"
        image(folder, name, number)
        table.append(f"{name},{SECRET} {max(number, 1)},CT")
    (folder / "patients.csv").write_text("\n".join(table))
    found = StudiesFolder(folder)
    found.open()
    for number in range(6):
        names = ("Liver", "lesion 1", "lesion 2") if number % 2 else ("Lesion",)
        submit(found, f"{SECRET}_{number}", drawn(number, (1, 2, 3) if number % 2 else (1,)), names)
    store, workflow = StudiesDatastore(str(folder)), Workflow(tmp_path)
    labels = {label.image[-1]: label.id for label in workflow.read(store).labels}
    for number, decision in (("0", "accept"), ("1", "accept"), ("5", "reject")):
        workflow.review(store, labels[number], decision, READERS[1], "")
    return found


def run(studies: StudiesFolder, *words: str) -> Result:
    where = ["--studies", str(studies.path), "--by", "Dr. Jones", "--audit-dir", str(studies.path.parent / "audit")]
    return CliRunner().invoke(main, ["--app", str(APP_DIR), "labels", *words, *where])


def exported(studies: StudiesFolder, out: Path, layout: str, *words: str) -> dict[str, Any]:
    done = run(studies, "export", str(out), "--format", layout, *words)
    assert done.exit_code == 0, done.output
    return dict(json.loads((out / "manifest.json").read_text()))


def key_of(out: Path) -> dict[str, Any]:
    return dict(json.loads(out.with_name(f"{out.name}.key.json").read_text()))


def number_of(out: Path, case: str) -> int:
    return int(key_of(out)["cases"][case]["image"][-1])


def everything(out: Path) -> bytes:
    """All bytes that leave, unpacked, and all names of files."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    packed = [path.read_bytes() for path in files]
    unpacked = [gzip.decompress(content) for content in packed if content[:2] == b"\x1f\x8b"]
    return b"".join([*(path.name.encode() for path in files), *packed, *unpacked])


def by_sitk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (i, j, k) and the corners' positions in LPS mm, by a reader that shares no code with the writer."""
    found = sitk.ReadImage(str(path))
    corners = [found.TransformIndexToPhysicalPoint(index) for index in ((0, 0, 0), (11, 9, 7))]
    return sitk.GetArrayFromImage(found).transpose(), np.array(corners)


def check_nnunet(folder: Path) -> dict[str, np.ndarray]:
    """The rules of nnU-Net's own ``verify_dataset_integrity``; labels by case."""
    dataset = json.loads((folder / "dataset.json").read_text())
    assert list(dataset["labels"].values()) == list(range(len(dataset["labels"])))
    assert dataset["labels"]["background"] == 0 and list(dataset["channel_names"]) == ["0"]
    names = [path.name.removesuffix(".nii.gz") for path in sorted((folder / "labelsTr").iterdir())]
    assert len(names) == dataset["numTraining"] and dataset["file_ending"] == ".nii.gz"
    assert sorted(path.name for path in (folder / "imagesTr").iterdir()) == [f"{name}_0000.nii.gz" for name in names]
    labels = {}
    for name in names:
        (voxels, there), (labels[name], here) = (
            by_sitk(folder / path) for path in (f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz")
        )
        assert voxels.shape == labels[name].shape == SHAPE and not np.isnan(voxels).any()
        np.testing.assert_allclose(here, there, atol=1e-4)
        assert set(np.unique(labels[name])) <= set(dataset["labels"].values())
    return labels


def test_nnunet(studies: StudiesFolder, tmp_path: Path) -> None:
    out = tmp_path / SET
    manifest = exported(studies, out, "nnunet", "--train-on", "submitted")
    labels = check_nnunet(out)
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "lesion": 1, "liver": 2} and dataset["channel_names"] == {"0": "CT"}
    assert len(labels) == 5, "the rejected one is not learned from, and not exported"
    for case, voxels in labels.items():
        number = number_of(out, case)
        values = np.array([0, 2, 1, 1] if number % 2 else [0, 1], np.uint8)
        np.testing.assert_array_equal(voxels, values[drawn(number, (1, 2, 3) if number % 2 else (1,))])
        image = nib.load(studies.path / f"{SECRET}_{number}.nii.gz")
        stored = nib.load(out / f"imagesTr/{case}_0000.nii.gz")
        np.testing.assert_array_equal(np.asarray(stored.dataobj), np.asarray(image.dataobj))
        np.testing.assert_allclose(stored.affine, image.affine, atol=1e-5)
        np.testing.assert_allclose(by_sitk(out / f"imagesTr/{case}_0000.nii.gz")[1][0], [-40, 20, 300], atol=1e-4)
    folds = json.loads((out / "splits_final.json").read_text())
    patients = {entry["case"]: entry["patient"] for entry in manifest["cases"]}
    assert len(folds) == len(set(patients.values())) == 4
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(labels)
    for fold in folds:
        assert not {patients[case] for case in fold["train"]} & {patients[case] for case in fold["val"]}
        assert sorted(fold["train"] + fold["val"]) == sorted(labels)


def test_what_leaves_names_nobody_and_says_what_it_is(studies: StudiesFolder, tmp_path: Path) -> None:
    out = tmp_path / SET
    manifest = exported(studies, out, "nnunet")
    left = everything(out)
    for name in (SECRET, "Mueller", "Erika", "Roe", "Poe", "Jones", str(tmp_path)):
        assert name.encode() not in left, name
    assert len(manifest["cases"]) == 2, "accepted ones"
    key = key_of(out)
    assert key["manifest_sha256"] == hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest()
    for entry in manifest["cases"]:
        for kind in ("image", "label"):
            content = (out / entry[kind]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == entry[f"{kind}_sha256"]
        readers = key["readers"][entry["drawn_by"]], key["readers"][entry["accepted_by"]]
        assert readers == READERS and entry["state"] == "accepted"
        assert key["cases"][entry["case"]]["patient"] == f"{SECRET} 1" and "saved_at" not in entry
    assert manifest["made_by"]["version"] and manifest["pseudonymised"] is True
    mode = out.with_name(f"{SET}.key.json").stat().st_mode
    assert mode & 0o077 == 0 and out.stat().st_mode & 0o077 == 0
    (record,) = [one for one in AuditLog(studies.path.parent / "audit", 2**20).records() if one["label"] == "export"]
    assert record["archive_sha256"] == key["manifest_sha256"] and record["user"] == "Dr. Jones"
    # The same cases have the same names in a later set, and equal voxels are equal files.
    again = exported(studies, tmp_path / "Dataset102_Again", "nnunet")
    assert again["cases"] == manifest["cases"]


def test_names_are_kept_when_asked_for(studies: StudiesFolder, tmp_path: Path) -> None:
    out = tmp_path / SET
    manifest = exported(studies, out, "nnunet", "--identified")
    assert {entry["case"] for entry in manifest["cases"]} == {f"{SECRET}_0", f"{SECRET}_1"}
    assert {(entry["drawn_by"], entry["accepted_by"]) for entry in manifest["cases"]} == {READERS}
    assert not out.with_name(f"{SET}.key.json").exists() and manifest["cases"][0]["saved_at"]


def test_msd(studies: StudiesFolder, tmp_path: Path) -> None:
    out = tmp_path / "Task01_Lesions"
    exported(studies, out, "msd", "--train-on", "submitted")
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["labels"] == {"0": "background", "1": "lesion", "2": "liver"} and dataset["modality"] == {"0": "CT"}
    assert dataset["numTraining"] == len(dataset["training"]) == 5
    for entry in dataset["training"]:
        voxels, there = by_sitk(out / entry["image"])
        labels, here = by_sitk(out / entry["label"])
        assert voxels.shape == labels.shape and set(np.unique(labels)) <= {0, 1, 2}
        np.testing.assert_allclose(here, there, atol=1e-4)


def test_pairs_keep_each_segment_with_its_name(studies: StudiesFolder, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    manifest = exported(studies, out, "nifti", "--train-on", "submitted")
    for entry in manifest["cases"]:
        number = number_of(out, entry["case"])
        names = {"Liver": 1, "lesion 1": 2, "lesion 2": 3} if number % 2 else {"Lesion": 1}
        assert entry["segments"] == names
        np.testing.assert_array_equal(
            by_sitk(out / entry["label"])[0], drawn(number, (1, 2, 3) if number % 2 else (1,))
        )


def test_what_a_preset_learns_from(studies: StudiesFolder, tmp_path: Path) -> None:
    image(studies.path, "mr_1", 9)
    with (studies.path / "patients.csv").open("a") as table:
        table.write("\nmr_1,Someone,MR\n")
    submit(studies, "mr_1", drawn(0), ("lesion",))
    words = ("--train-on", "submitted")
    refused = run(studies, "export", str(tmp_path / SET), "--format", "nnunet", *words)
    assert refused.exit_code == 1 and not (tmp_path / SET).exists()
    manifest = exported(studies, tmp_path / SET, "nnunet", *words, "--preset", "mr")
    assert [entry["modality"] for entry in manifest["cases"]] == ["MR"]
    check_nnunet(tmp_path / SET)


def test_overlapping_segments_are_left_out_with_the_reason(studies: StudiesFolder, tmp_path: Path) -> None:
    name = f"{SECRET}_2"
    layers = [np.zeros(SHAPE, np.uint8) for _ in range(2)]
    layers[0][2:8, 2:8, 2:6] = 1
    layers[1][4:6, 4:6, 3:5] = 1
    path = write_layers(tmp_path / "label.seg.nrrd", layers, [("liver", 0, 1), ("lesion", 1, 1)], AFFINE)
    studies.delete_label(name, "final", By("me"))
    studies.save_label(name, "final", ".nrrd", path, {"author": "Dr. Roe"}, By("me"))
    done = run(studies, "export", str(tmp_path / SET), "--format", "nnunet", "--train-on", "submitted")
    assert f"The label of {name} is left out: its segments overlap" in done.output and done.exit_code == 0
    assert len(check_nnunet(tmp_path / SET)) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("Lesions", "--format", "nnunet"), "DatasetNNN_Name"),
        (("segs", "--format", "dicom-seg"), "has to name the DICOM slices"),
        ((SET, "--format", "nnunet", "--preset", "nope"), "There is no preset 'nope'"),
    ],
)
def test_refusals(studies: StudiesFolder, tmp_path: Path, words: tuple[str, ...], said: str,
                  caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    done = run(studies, "export", str(tmp_path / words[0]), *words[1:])
    assert done.exit_code and said in done.output.replace("\n", " ") + caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["hospital"]


def test_nothing_is_overwritten(studies: StudiesFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "pairs"
    exported(studies, out, "nifti")
    before = everything(out), key_of(out)
    assert run(studies, "export", str(out), "--format", "nifti").exit_code == 1 and "exists already" in caplog.text
    assert (everything(out), key_of(out)) == before


KILL = """
import os, signal
from lib.label_sets import export
write = export._write_json
def kill_before_the_manifest(path, content):
    if path.name == export.MANIFEST:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)
export._write_json = kill_before_the_manifest
from sam3d.__main__ import main
main()
"""


def test_a_killed_export_leaves_no_set(studies: StudiesFolder, tmp_path: Path) -> None:
    out = tmp_path / SET
    words = ["--app", str(APP_DIR), "labels", "export", str(out), "--format", "nnunet", "--studies", str(studies.path)]
    root = APP_DIR.parents[1]
    died = subprocess.run(
        [sys.executable, "-c", KILL, *words, "--by", "me", "--audit-dir", str(tmp_path / "audit")],
        env={**os.environ, "PYTHONPATH": f"{APP_DIR}:{root}"}, cwd=root, capture_output=True, timeout=100,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not out.exists() and any(path.name.endswith(".partial") for path in tmp_path.iterdir())
    exported(studies, out, "nnunet")
    check_nnunet(out)


def empty_studies(tmp_path: Path) -> StudiesFolder:
    folder = tmp_path / "elsewhere" / "studies"
    folder.mkdir(parents=True)
    return StudiesFolder(folder)


@pytest.mark.parametrize(("layout", "name"), [("nnunet", SET), ("msd", "Task01"), ("nifti", "pairs")])
def test_what_was_exported_is_taken_in_as_submitted_labels(
    studies: StudiesFolder, tmp_path: Path, layout: str, name: str
) -> None:
    out = tmp_path / name
    manifest = exported(studies, out, layout, "--train-on", "submitted")
    into = empty_studies(tmp_path)
    done = run(into, "import", str(out))
    assert done.exit_code == 0 and "Submitted: 5 labels" in done.output, done.output
    store = StudiesDatastore(str(into.path))
    labels = Workflow(tmp_path).read(store).labels
    assert {label.image for label in labels} == {entry["case"] for entry in manifest["cases"]}
    assert {label.tag for label in labels} == {"final"}
    again = tmp_path / f"{name.replace('101', '102')}_again" / (SET if layout == "nnunet" else name)
    # Exported once more it is the same set, down to names, patients and readers.
    second = exported(into, again, layout, "--train-on", "submitted", "--identified")
    kept = ("case", "patient", "modality", "segments", "drawn_by", "image_sha256", "label_sha256")
    assert [[entry[key] for key in kept] for entry in second["cases"]] == [
        [entry[key] for key in kept] for entry in manifest["cases"]
    ]
    assert "Submitted: 0 labels; 5 were there already" in run(into, "import", str(out)).output


def test_corrections_of_a_set_find_home(studies: StudiesFolder, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    manifest = exported(studies, out, "nifti", "--train-on", "submitted")
    names = {number_of(out, entry["case"]): entry["case"] for entry in manifest["cases"]}
    home = {number: f"{SECRET}_{number}" for number in names}
    corrected = np.roll(drawn(0), 2, axis=0)
    for number in (0, 2, 4):
        nib.save(nib.Nifti1Image(corrected, AFFINE), out / f"labels/{names[number]}.nii.gz")
    submit(studies, home[2], drawn(2)[::-1], ("Lesion",))  # meanwhile
    image(studies.path, home[4], 77)
    key = ("--key", f"{out}.key.json")
    done = run(studies, "import", str(out), *key)
    assert done.exit_code == 0 and "Submitted: 1 labels; 2 were there already" in done.output, done.output
    assert "was changed here since the export" in done.output and "replaced since the export" in done.output
    store, workflow = StudiesDatastore(str(studies.path)), Workflow(tmp_path)
    known = workflow.read(store)
    (label,) = [label for label in known.labels if label.image == home[0]]
    assert label.parent == key_of(out)["cases"][names[0]]["label"] and label.author == ""
    decisions = {review.label: (review.decision, review.new_label) for review in known.reviews}
    assert decisions[label.parent] == ("correct", label.id)
    stored = nib.load(studies.labels / f"final/{home[0]}.nii.gz")
    np.testing.assert_array_equal(np.asarray(stored.dataobj), corrected)
    assert set(studies.index()["objects"]) == {f"{SECRET}_{number}" for number in range(6)}
    assert "Submitted: 0 labels; 3 were there already" in run(studies, "import", str(out), *key).output


def test_the_key_of_another_export(studies: StudiesFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    exported(studies, tmp_path / "one", "nifti")
    exported(studies, tmp_path / "two", "nifti", "--train-on", "submitted")
    for file, said in (("two.key.json", "another export"), ("one/manifest.json", "no file that an export wrote")):
        assert run(studies, "import", str(tmp_path / "one"), "--key", str(tmp_path / file)).exit_code == 1
        assert said in caplog.text


def a_set(folder: Path, labels: dict[str, Any], values: dict[str, np.ndarray]) -> Path:
    """nnU-Net's raw folder as others write it."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    dataset = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": len(values), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for name, voxels in values.items():
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), AFFINE), folder / f"imagesTr/{name}_0000.nii.gz")
        nib.save(nib.Nifti1Image(voxels, AFFINE), folder / f"labelsTr/{name}.nii.gz")
    return folder


def test_a_set_of_others(tmp_path: Path) -> None:
    """Values are those of dataset.json, also where a case lacks some; of no case does anybody know who drew it."""
    cases = {"a": drawn(0, (2,)), "b": drawn(0, (1, 3)), "c": drawn(0, (1, 2, 3)), "empty": drawn(0, ())}
    labels = {"background": 0, "liver": 1, "cyst": 2, "lesion": 3}
    into = empty_studies(tmp_path)
    done = run(into, "import", str(a_set(tmp_path / "set", labels, cases)))
    assert done.exit_code == 0 and "'nothing found here'" in done.output, done.output
    manifest = exported(into, tmp_path / "pairs", "nifti", "--train-on", "submitted", "--identified")
    found = {entry["case"]: entry for entry in manifest["cases"]}
    assert {name: list(entry["segments"]) for name, entry in found.items()} == {
        "a": ["cyst"], "b": ["liver", "lesion"], "c": ["liver", "cyst", "lesion"],
    }  # fmt: skip
    assert {(entry["drawn_by"], entry["modality"]) for entry in found.values()} == {("", "MR")}


def test_what_is_wrong_with_a_case_is_said_and_the_others_are_taken(tmp_path: Path) -> None:
    cases = {name: drawn(0, (1, 4) if name == "unnamed" else (1,)) for name in ("good", "unnamed", "lost", "moved")}
    folder = a_set(tmp_path / "set", {"background": 0, "lesion": 1}, cases)
    (folder / "imagesTr/lost_0000.nii.gz").unlink()
    away = AFFINE.copy()
    away[:3, 3] += 500
    nib.save(nib.Nifti1Image(drawn(0)[:-1], away), folder / "labelsTr/moved.nii.gz")
    into = empty_studies(tmp_path)
    done = run(into, "import", str(folder))
    assert "Submitted: 1 labels" in done.output and done.exit_code == 0
    for name, reason in (("unnamed", "4 have no name"), ("lost", "is missing"), ("moved", "lies beside its image")):
        assert f"The label of {name} is left out" in done.output and reason in done.output
    # What somebody drew is not replaced by a file.
    nib.save(nib.Nifti1Image(drawn(1), AFFINE), folder / "labelsTr/good.nii.gz")
    assert "has a submitted label already" in run(into, "import", str(folder)).output


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ({"channel_names": {"0": "CT", "1": "PET"}}, "several channels"),
        ({"channel_names": {"0": "CT"}, "labels": {"whole": [1, 2]}, "file_ending": ".nii.gz"}, "region"),
        ({"channel_names": {"0": "CT"}, "labels": {"background": 0}, "file_ending": ".png"}, ".png"),
        ({"channel_names": {"0": "CT"}, "dataset": {}, "file_ending": ".nii.gz"}, "other folders"),
        ({"training": [{"image": "../x.nii", "label": "../y.nii"}], "modality": {"0": "CT"}, "labels": {}}, "outside"),
        ({}, "is no set of labels"),
    ],
)  # fmt: skip
def test_sets_that_are_not_taken(
    tmp_path: Path, dataset: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/dataset.json").write_text(json.dumps(dataset))
    into = empty_studies(tmp_path)
    assert run(into, "import", str(tmp_path / "set")).exit_code == 1 and said in caplog.text
    assert into.index()["objects"] == {}


def test_folds_are_of_one_size() -> None:
    patients = {f"{patient}_{number}": str(patient) for patient in range(20) for number in range(patient % 4 + 1)}
    sizes = sorted(len(fold["val"]) for fold in folds_of(patients))
    assert len(sizes) == 5 and all(after - before <= 1 for before, after in pairwise(sizes))
    assert folds_of({"a": "one", "b": "one"}) == []
