"""Whatever program a label comes from, the trainer sees its voxels under its names, or somebody is told why not."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests
import SimpleITK as sitk
from monailabel.client.client import MONAILabelClient, MONAILabelClientException
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.utils.app import app_instance
from pydicom.dataset import Dataset

from lib.annotations.label_snapshots import LabelSnapshots
from lib.annotations.patients import PatientBook
from lib.annotations.submitted import Learner, Submitted, read_submitted
from lib.host.pacs.labels import pacs_labels
from lib.host.pacs.lists import PacsLists, with_fresh_lists
from lib.host.pacs.segmentations import segmentation_file
from lib.presets import load_preset
from tests.support.dicom_segs import by_dcmqi, by_hand, by_highdicom
from tests.support.dicom_study import Study
from tests.support.layered_labels import write_layers
from tests.support.live_app import LiveApp
from tests.support.odd_series import make_series
from tests.support.pacs import PacsWithSegs, open_store
from tests.support.server import APP_DIR

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    # MONAI's, of a decoder for DICOM that is not installed; highdicom's, of what DICOM calls a patient's name.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
]
DOCS = APP_DIR.parents[1] / "docs/label-exchange.md"
CT = load_preset(APP_DIR / "configs/ct.yaml")
Masks = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def study() -> Study:
    return make_series(orientation="sagittal")


@pytest.fixture
def pacs(live: LiveApp, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PacsWithSegs]:
    """The PACS behind the application, in place of its folder of images."""
    found = PacsWithSegs(list(study.instances))
    monkeypatch.setattr(app_instance(), "_datastore", open_store(found, tmp_path))
    # itkimage2segimage lies beside Python.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    yield found
    # The host leaves what it converts; a server of its own process sweeps it up.
    for left in Path(tempfile.gettempdir()).iterdir():
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


@pytest.fixture
def store(pacs: PacsWithSegs) -> DICOMWebDatastore:
    return app_instance().datastore()


def box(*ranges: tuple[int, int]) -> np.ndarray:
    found = np.zeros((32, 32, 16), bool)
    found[tuple(slice(*one) for one in ranges)] = True
    return found


BIG, SMALL, INNER = box((4, 20), (5, 18), (3, 12)), box((22, 28), (6, 11), (2, 6)), box((8, 12), (9, 14), (6, 9))


def learned(store: DICOMWebDatastore, folder: Path) -> Submitted:
    """What a training of a preset for any structure reads."""
    clicked = set(store.list_images())
    found = pacs_labels(store, LabelSnapshots(folder / "kept"), expected=["lesion", "Niere"], clicked=clicked)
    return read_submitted(found, Learner(CT), PatientBook().patient_of)


def masks_of(submitted: Submitted) -> Masks:
    assert submitted.skipped == ()
    (case,) = submitted.cases
    labels = case.read_labels()
    return {name: case.mask(labels, number) for number, name in enumerate(case.names, start=1)}


def check_masks(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask, err_msg=name)


# What 3D Slicer and OHIF submit, through MONAI Label's own client.


def placed(voxels: np.ndarray, image: Path) -> sitk.Image:
    found = sitk.GetImageFromArray(voxels.transpose())
    found.CopyInformation(sitk.ReadImage(str(image)))
    return found


def as_nifti(voxels: np.ndarray, image: Path, folder: Path, dtype: type = np.uint8) -> Path:
    sitk.WriteImage(placed(voxels.astype(dtype), image), str(folder / "label.nii.gz"))
    return folder / "label.nii.gz"


def as_nrrd(voxels: np.ndarray, image: Path, folder: Path, segments: Sequence[tuple[str, int]]) -> Path:
    written = placed(voxels, image)
    for number, (name, value) in enumerate(segments):
        written.SetMetaData(f"Segment{number}_Name", name)
        written.SetMetaData(f"Segment{number}_LabelValue", str(value))
    sitk.WriteImage(written, str(folder / "label.seg.nrrd"), True)
    return folder / "label.seg.nrrd"


def as_layers(image: Path, folder: Path) -> Path:
    layers = [BIG.astype(np.uint8), INNER.astype(np.uint8)]
    return write_layers(folder / "label.seg.nrrd", layers, [("Niere", 0, 1), ("lesion", 1, 1)], nib.load(image).affine)


def cropped(image: Path, folder: Path) -> Path:
    written = placed(numbered(BIG, SMALL), image)[2:30, 3:29, 1:14]
    sitk.WriteImage(written, str(folder / "label.nii.gz"))
    return folder / "label.nii.gz"


def raw(image: Path, folder: Path) -> Path:
    (folder / "label.bin").write_bytes(numbered(BIG, SMALL).tobytes(order="F"))
    return folder / "label.bin"


def numbered(*masks: np.ndarray) -> np.ndarray:
    found = np.zeros(masks[0].shape, np.uint8)
    for value, mask in enumerate(masks, start=1):
        found[mask] = value
    return found


def named(*entries: tuple[str, int]) -> dict[str, Any]:
    return {"label_info": [{"name": name, "idx": idx} for name, idx in entries]}


TWO = {"Niere": BIG, "lesion": SMALL}
IN_ORDER = named(("Niere", 1), ("lesion", 2))

Write = Callable[[Path, Path], Path]
SUBMITTED: dict[str, tuple[Write, dict[str, Any], Masks | str]] = {
    "NIfTI": (lambda image, to: as_nifti(numbered(BIG, SMALL), image, to), IN_ORDER, TWO),
    "NIfTI, background first": (
        lambda image, to: as_nifti(numbered(BIG, SMALL), image, to),
        named(("background", 0), ("Niere", 1), ("lesion", 2)),
        TWO,
    ),
    "NIfTI, renamed": (
        lambda image, to: as_nifti(numbered(BIG, SMALL), image, to),
        named(("Nierenzyste, klein", 1), ("Läsion 腫瘍", 2)),
        {"Nierenzyste, klein": BIG, "Läsion 腫瘍": SMALL},
    ),
    "NIfTI, reordered": (
        lambda image, to: as_nifti(numbered(SMALL, BIG), image, to),
        named(("lesion", 1), ("Niere", 2)),
        TWO,
    ),
    "NIfTI, some segments hidden": (
        lambda image, to: as_nifti(numbered(BIG, SMALL), image, to),
        named(("Niere", 2), ("lesion", 5)),
        TWO,
    ),
    "NIfTI, a segment is empty": (
        lambda image, to: as_nifti(numbered(box((0, 0)), BIG, SMALL), image, to),
        named(("cyst", 1), ("Niere", 2), ("lesion", 3)),
        TWO,
    ),
    "NIfTI, floats": (lambda image, to: as_nifti(numbered(BIG, SMALL), image, to, np.float32), IN_ORDER, TWO),
    "NIfTI, two objects of a label": (
        lambda image, to: as_nifti(numbered(BIG, SMALL), image, to),
        named(("lesion", 1), ("lesion 2", 2)),
        {"lesion": BIG, "lesion 2": SMALL},
    ),
    "NIfTI, cropped": (cropped, IN_ORDER, TWO),
    "seg.nrrd, names in its header": (
        lambda image, to: as_nrrd(numbered(BIG, SMALL), image, to, [("lesion", 2), ("Niere", 1)]),
        named(("segment", 1), ("segment", 2)),
        TWO,
    ),
    "seg.nrrd, values with gaps": (
        lambda image, to: as_nrrd(numbered(BIG, SMALL) * 7, image, to, [("Niere", 7), ("lesion", 14)]),
        {},
        TWO,
    ),
    "seg.nrrd, background as a segment": (
        lambda image, to: as_nrrd(
            numbered(~(BIG | SMALL), BIG, SMALL), image, to, [("background", 1), ("Niere", 2), ("lesion", 3)]
        ),
        {},
        TWO,
    ),
    "seg.nrrd, overlapping": (as_layers, {}, {"Niere": BIG, "lesion": INNER}),
    "OHIF's voxels": (raw, IN_ORDER, TWO),
    "names contradict themselves": (
        lambda image, to: as_nifti(numbered(BIG, SMALL), image, to),
        named(("lesion", 2), ("Niere", 1)),
        "in another order",
    ),
    "a value without a name": (
        lambda image, to: as_nifti(numbered(BIG, SMALL, box((0, 2), (0, 2), (0, 2))), image, to),
        IN_ORDER,
        "do not fit the names",
    ),
    "values without names": (lambda image, to: as_nifti(numbered(BIG, SMALL), image, to), {}, "have no names"),
    "nothing but background": (
        lambda image, to: as_nifti(numbered(BIG), image, to),
        named(("background", 1)),
        "nothing but background",
    ),
    "every second slice": (
        lambda image, to: as_nifti(numbered(BIG) * (np.arange(16) % 2).astype(np.uint8), image, to),
        named(("lesion", 1)),
        "drawn on slices that are no neighbours",
    ),
    "empty": (lambda image, to: as_nifti(np.zeros(BIG.shape), image, to), IN_ORDER, "is empty"),
}


@pytest.mark.parametrize("form", SUBMITTED)
def test_submitted(
    live: LiveApp, pacs: PacsWithSegs, store: DICOMWebDatastore, study: Study, tmp_path: Path, form: str
) -> None:
    write, params, expected = SUBMITTED[form]
    label = write(Path(store.get_image_uri(study.series_uid)), tmp_path)
    client = MONAILabelClient(live.url)
    about = {**params, "author": "Dr. Röe", "model": "ct"}
    if isinstance(expected, str):
        with pytest.raises(MONAILabelClientException, match=expected):
            client.save_label(study.series_uid, str(label), params=about)
        assert pacs.stored == [] and learned(store, tmp_path).cases == ()
        return
    client.save_label(study.series_uid, str(label), params=about)
    check_masks(masks_of(learned(store, tmp_path)), expected)
    (seg,) = pacs.stored
    file = tmp_path / "stored.dcm"
    seg.save_as(file, write_like_original=False)
    check_masks(read_by_highdicom(file, study), expected)
    check_words(file, expected)
    check_by_dciodvfy(file)


def read_by_highdicom(path: Path, study: Study) -> Masks:
    """Voxels (i, j, k) of each segment, by a library that shares no code with the writer."""
    seg = hd.seg.segread(path)
    order = sorted(
        study.instances, key=lambda one: study.geometry.voxel([float(x) for x in one.ImagePositionPatient])[2]
    )
    uids = [one.SOPInstanceUID for one in order]
    found = seg.get_pixels_by_source_instance(uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True)
    return {
        seg.get_segment_description(number).segment_label: found[..., rank].astype(bool).transpose(2, 1, 0)
        for rank, number in enumerate(seg.segment_numbers)
    }


def check_words(path: Path, expected: Mapping[str, np.ndarray]) -> None:
    """Names as the user gave them; the model, its version and the purpose."""
    seg = pydicom.dcmread(path)
    served = app_instance()._infers["ct"].served.status().version
    assert served
    assert {item.SegmentLabel for item in seg.SegmentSequence} == set(expected)
    for item in seg.SegmentSequence:
        assert item.SegmentAlgorithmName == f"sam3d_adapter ct {served}"
        assert item.SegmentDescription.startswith(f"Research use only. sam3d_adapter ct {served}")
        assert item.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert seg.SeriesDescription == "Research use only: ct segmentation" and seg.ContentCreatorName == "Dr. Röe"
    assert seg.ContentDescription == f"Research use only. sam3d_adapter ct {served}"


def check_by_dciodvfy(path: Path) -> None:
    """dicom3tools' validator finds no error."""
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is missing (apt install dicom3tools)")
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
    assert "Segmentation" in said.stderr
    assert [line for line in said.stderr.splitlines() if line.startswith("Error")] == []


# What other programs store in the PACS beside the server.


def changed(seg: Dataset, **texts: Any) -> Dataset:
    for key, text in texts.items():
        setattr(seg, key, text)
    return seg


def shares() -> Masks:
    """Of each voxel how much belongs to a structure: half and less at the rim."""
    rim = box((3, 21), (4, 19), (2, 13)) & ~BIG
    return {"lesion": BIG * 0.9 + rim * 0.4}


ONE: Masks = {"lesion": BIG}
BOTH: Masks = {"lesion": BIG, "lesion 2": SMALL}
NESTED: Masks = {"Niere": BIG, "lesion": INNER}
SPARSE: Masks = {"lesion": box((4, 20), (5, 18), (3, 6)) | box((4, 10), (20, 26), (9, 12))}
Store = Callable[[Study, Path, Path], Dataset]
STORED: dict[str, tuple[Store, Masks | str]] = {
    "highdicom": (lambda study, *_: by_highdicom(study, BOTH), BOTH),
    "highdicom, empty frames kept": (lambda study, *_: by_highdicom(study, ONE, omit_empty=False), ONE),
    "highdicom, names with numbers first": (
        lambda study, *_: by_highdicom(study, {"lesion #2": SMALL, "LESION": BIG}),
        {"lesion #2": SMALL, "LESION": BIG},
    ),
    "highdicom, other structures beside": (
        lambda study, *_: by_highdicom(study, {"Aorta": SMALL, "lesion": BIG}),
        ONE,
    ),
    "highdicom, fractional": (lambda study, *_: by_highdicom(study, shares(), kind="FRACTIONAL"), ONE),
    "highdicom, overlapping": (lambda study, *_: by_highdicom(study, NESTED), NESTED),
    "dcmqi": (lambda study, image, to: by_dcmqi(study, BOTH, image, to), BOTH),
    "dcmqi, label map": (lambda study, image, to: by_dcmqi(study, BOTH, image, to, kind="labelmap"), BOTH),
    "another program": (lambda study, *_: by_hand(study, BOTH), BOTH),
    "another program, frames in any order": (
        lambda study, *_: by_hand(study, BOTH, order=np.random.default_rng(1).permutation(13).tolist()),
        BOTH,
    ),
    "another program, cropped": (lambda study, *_: by_hand(study, ONE, crop=(3, 22, 2, 20)), ONE),
    "another program, sparse": (lambda study, *_: by_hand(study, SPARSE), SPARSE),
    "another program, overlapping": (lambda study, *_: by_hand(study, NESTED), NESTED),
    "another program, label map": (lambda study, *_: by_hand(study, BOTH, kind="LABELMAP"), BOTH),
    "another program, rows turned over": (lambda study, *_: by_hand(study, ONE, is_flipped=True), ONE),
    "another program, orientation with each frame": (lambda study, *_: by_hand(study, ONE, is_shared=False), ONE),
    "another program, without ReferencedSeriesSequence": (lambda study, *_: by_hand(study, ONE, refers="slices"), ONE),
    "another program, without a date": (
        lambda study, *_: changed(by_hand(study, ONE), ContentDate="", ContentTime=""), ONE,
    ),
    "another program, without any reference": (lambda study, *_: by_hand(study, ONE, refers="nothing"), ""),
    "any program, other structures alone": (lambda study, *_: by_highdicom(study, {"Aorta": BIG}), ""),
    "any program, of an unknown type": (
        lambda study, *_: changed(by_hand(study, ONE), SegmentationType="SURFACE"), "its type is 'SURFACE'",
    ),
    "any program, empty": (
        lambda study, *_: by_highdicom(study, {"lesion": BIG & False, "Aorta": BIG}), "nothing is drawn in it",
    ),
    "any program, every second slice": (
        lambda study, *_: by_hand(study, {"lesion": BIG & (np.arange(16) % 2 == 1)}),
        "drawn on slices that are no neighbours",
    ),
    "any program, damaged frames": (
        lambda study, *_: changed(by_hand(study, ONE), PixelData=b"\0\0"), "cannot be unpacked",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", STORED)
def test_stored_beside_the_server(
    pacs: PacsWithSegs,
    store: DICOMWebDatastore,
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    for name in ("SEARCH_FILTER", "CACHE_EXPIRY"):
        monkeypatch.setenv(f"MONAI_LABEL_DICOMWEB_{name}", "")  # the lists set them for background tasks
    write, expected = STORED[form]
    seg = write(study, Path(store.get_image_uri(study.series_uid)), tmp_path)
    pacs.stored.append(seg)
    found = learned(store, tmp_path)
    if isinstance(expected, str):
        assert found.cases == () and [expected in one.reason for one in found.skipped] == [True] * bool(expected)
    else:
        check_masks(masks_of(found), expected)
    listed = with_fresh_lists(store, ["CT"], ["lesion", "Niere"])
    assert listed.get_labeled_images() == ([] if isinstance(expected, str) else [study.series_uid])


def test_a_case_counts_as_labelled_until_its_seg_turns_out_to_be_useless(
    pacs: PacsWithSegs, store: DICOMWebDatastore, study: Study
) -> None:
    image: list[Path] = []
    lists = PacsLists(pacs, {"Modality": "CT"}, 0, ["lesion"], lambda uid: next(iter(image), None))
    pacs.stored.append(by_hand(study, {"lesion": BIG & (np.arange(16) % 2 == 1)}))
    assert lists.labelled() == [study.series_uid]
    image.append(Path(store.get_image_uri(study.series_uid)))
    assert lists.labelled() == []
    pacs.stored.append(by_hand(study, ONE))
    assert lists.labelled() == [study.series_uid] == lists.labelled()


def test_the_tables_in_the_documentation() -> None:
    rows = [line.strip("| ").split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    outcomes = ("right", "refused", "no label of this server")
    stated = {row[0]: row[1] for row in rows if row[1].startswith(outcomes)}
    expected = {form: found for form, (*_, found) in [*SUBMITTED.items(), *STORED.items()]}
    assert stated == {
        form: "right" if not isinstance(found, str) else f'refused: "{found}"' if found else "no label of this server"
        for form, found in expected.items()
    }


def test_a_label_map_of_others_opens_in_the_viewer(
    pacs: PacsWithSegs, store: DICOMWebDatastore, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "study_of", lambda image: {"study": study.study_uid}, raising=False)
    seg = by_hand(study, BOTH, kind="LABELMAP")
    pacs.stored.append(seg)
    file = segmentation_file(study.series_uid, str(seg.SeriesInstanceUID), store)
    opened = sitk.GetArrayFromImage(sitk.ReadImage(str(file))).transpose()
    file.unlink()
    np.testing.assert_array_equal(opened, numbered(BIG, SMALL))


def test_an_answer_as_dicom_seg_says_which_model_gave_it(
    live: LiveApp, pacs: PacsWithSegs, study: Study, tmp_path: Path
) -> None:
    params = {"foreground": [[16, 16, 8]], **named(("lesion", 1))}
    answer = requests.post(
        f"{live.url}/infer/test", params={"image": study.series_uid, "output": "dicom_seg"},
        files={"params": (None, json.dumps(params))}, timeout=200,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    (tmp_path / "answer.dcm").write_bytes(answer.content)
    (item,) = pydicom.dcmread(tmp_path / "answer.dcm").SegmentSequence
    assert item.SegmentLabel == "lesion" and item.SegmentAlgorithmName.startswith("sam3d_adapter test ")
    check_by_dciodvfy(tmp_path / "answer.dcm")
