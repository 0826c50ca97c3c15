"""Labels of a PACS, written by the host's own tools and read back for training."""

import copy
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import SimpleITK as sitk
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from lib.annotations.label_snapshots import LabelSnapshots
from lib.annotations.patients import PatientBook
from lib.annotations.submitted import Learner, SavedLabel, SubmittedCase, read_submitted
from lib.audit.log import AuditLog
from lib.host.case_endpoints import list_cases
from lib.host.pacs.labels import pacs_labels
from lib.host.pacs.recorded_labels import with_recorded_labels
from lib.host.pacs.segmentations import list_segmentations, segmentation_file
from lib.host.workflow import Workflow
from lib.presets import load_preset
from lib.registry.registry import Registry
from lib.trainers.train_task import FineTuneTask
from tests.support.dicom_study import Study
from tests.support.odd_series import make_series
from tests.support.pacs import PacsWithSegs, open_store
from tests.support.server import APP_DIR

pytestmark = [
    pytest.mark.timeout(300),
    # MONAI's, of a decoder for DICOM that is not installed.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
]
NAMES = ("kidney", "kidney tumor")
KITS = load_preset(Path(__file__).resolve().parents[3] / "configs/kits.yaml")
CT, MR = (load_preset(Path(__file__).resolve().parents[3] / f"configs/{name}.yaml") for name in ("ct", "mr"))


@pytest.fixture(scope="module")
def study() -> Study:
    return make_series(orientation="sagittal")


@pytest.fixture
def pacs(study: Study, monkeypatch: pytest.MonkeyPatch) -> Iterator[PacsWithSegs]:
    # itkimage2segimage lies beside Python.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    yield PacsWithSegs(list(study.instances))


@pytest.fixture
def store(pacs: PacsWithSegs, tmp_path: Path) -> DICOMWebDatastore:
    return open_store(pacs, tmp_path)


@pytest.fixture
def kept(tmp_path: Path) -> LabelSnapshots:
    return LabelSnapshots(tmp_path / "kept")


def labels(study: Study, *, tumor: int = 2, kidney: int = 1) -> np.ndarray:
    voxels = np.zeros(study.image.shape, np.uint8)
    voxels[4:20, 5:18, 3:12] = kidney
    voxels[8:12, 9:14, 6:9] = tumor
    return voxels


def save(store: DICOMWebDatastore, study: Study, voxels: np.ndarray, names: tuple[str, ...], folder: Path) -> None:
    image = sitk.GetImageFromArray(voxels.transpose())
    image.CopyInformation(sitk.ReadImage(store.get_image_uri(study.series_uid)))
    sitk.WriteImage(image, str(folder / "label.nii.gz"), True)
    info = {"label_info": [{"name": name, "idx": n} for n, name in enumerate(names, start=1)]}
    store.save_label(study.series_uid, str(folder / "label.nii.gz"), "final", info)


def as_if_of_ohif(pacs: PacsWithSegs, made: str = "20500101 120000") -> Dataset:
    """The last SEG once more, as a series that did not pass this server."""
    seg = copy.deepcopy(pacs.stored[-1])
    seg.SeriesInstanceUID, seg.SOPInstanceUID = generate_uid(), generate_uid()
    seg.SeriesDate, seg.SeriesTime = made.split()
    pacs.stored.append(seg)
    return seg


def forget(store: DICOMWebDatastore) -> None:
    """The server's own file of the label, as the host's datalist() removes it."""
    for file in Path(store._datastore.label_path("final")).glob("*.nii.gz"):
        file.unlink()
    store.refresh()


def read(store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, **options: Any) -> list[SavedLabel]:
    given = {"expected": ["Kidney Tumor", "lesion"], "clicked": {study.series_uid}} | options
    return pacs_labels(store, kept, **given)


def only_case(found: list[SavedLabel], preset: Any = KITS) -> SubmittedCase:
    submitted = read_submitted(found, Learner(preset), PatientBook().patient_of)
    assert submitted.skipped == ()
    (case,) = submitted.cases
    return case


def test_what_was_saved_here(
    store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    save(store, study, labels(study), NAMES, tmp_path)
    assert len(pacs.stored) == 1
    case = only_case(read(store, kept, study))
    np.testing.assert_array_equal(case.read().labels == 1, labels(study) == 2)
    assert case.patient.name == "MRN 7" and not case.patient.is_visible
    # Whoever saved it is known, so nothing more is asked of its names.
    assert only_case(read(store, kept, study, expected=[], clicked=[]), CT).names == NAMES


def test_label_whose_seg_left_the_pacs_is_kept(
    store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    save(store, study, labels(study), NAMES, tmp_path)
    read(store, kept, study)
    pacs.stored.clear()
    forget(store)
    np.testing.assert_array_equal(only_case(read(store, kept, study)).read().labels == 1, labels(study) == 2)
    pacs.is_out_of_reach = True
    assert len(read(store, kept, study)) == 1


def test_a_case_keeps_its_state_when_the_cache_is_emptied(
    pacs: PacsWithSegs, store: DICOMWebDatastore, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = Workflow(tmp_path / "learning")

    def opened(cache: DICOMWebDatastore) -> DICOMWebDatastore:
        monkeypatch.setattr(cache, "study_of", lambda image: {"study": study.study_uid}, raising=False)
        return with_recorded_labels(cache, lambda change: workflow.note_sent(cache, change))

    def submit(store: DICOMWebDatastore, voxels: np.ndarray) -> str:
        save(store, study, voxels, NAMES, tmp_path)
        assert state(store) == "submitted"
        return workflow.read(store).labels[0].id

    def state(store: DICOMWebDatastore) -> str:
        (case,) = list_cases(store, workflow)
        return case.state

    store = opened(store)
    first = submit(store, labels(study))
    workflow.review(store, first, "reject", "Dr. Poe", "no tail")
    shutil.rmtree(tmp_path / "cache")
    store = opened(open_store(pacs, tmp_path))
    assert state(store) == "rejected" and list_cases(store, workflow)[0].comment == "no tail"
    (label,) = workflow.read(store).labels
    assert (label.id, label.series) == (first, str(pacs.stored[-1].SeriesInstanceUID))
    # What only the PACS and the database have can be reviewed.
    workflow.review(store, first, "accept", "Dr. Poe", "")
    assert state(store) == "accepted"
    # A label that came after the one with the review waits for a review of its own.
    workflow.review(store, first, "reject", "Dr. Poe", "no tail")
    second = submit(store, labels(study, tumor=1))
    shutil.rmtree(tmp_path / "cache")
    store = opened(open_store(pacs, tmp_path))
    assert state(store) == "submitted" and [one.id for one in workflow.read(store).labels] == [second] != [first]
    with pytest.raises(HTTPException, match="replaced or deleted in the meantime"):
        workflow.review(store, first, "accept", "Dr. Poe", "")


def test_seg_of_a_viewer_is_cropped_renumbered_and_found_by_name(
    store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    # As OHIF numbers: by the alphabet, here the tumour first.
    save(store, study, labels(study, tumor=1, kidney=2), ("kidney tumor", "kidney"), tmp_path)
    forget(store)
    as_if_of_ohif(pacs)
    case = only_case(read(store, kept, study))
    assert sitk.ReadImage(str(case.label)).GetSize() != study.image.shape
    np.testing.assert_array_equal(case.read().labels == 1, labels(study) == 2)
    assert case.names == ("kidney tumor",) and case.patient.name == "MRN 7"
    # The kidney is not among the names expected here.
    assert only_case(read(store, kept, study), CT).names == ("kidney tumor",)


def test_seg_of_another_program_is_listed_and_read_onto_the_voxels_of_its_image(
    pacs: PacsWithSegs, store: DICOMWebDatastore, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "study_of", lambda image: {"study": study.study_uid}, raising=False)
    save(store, study, labels(study), NAMES, tmp_path)
    seg = as_if_of_ohif(pacs)
    seg.SegmentSequence[0].SegmentLabel, seg.ContentCreatorName = "Spleen", "Poe"
    newest, ours = list_segmentations(study.series_uid, store)
    assert newest["series"] == seg.SeriesInstanceUID and newest["by"] == "Poe"
    assert newest["segments"] == ["Spleen", "kidney tumor"] and ours["segments"] == list(NAMES)
    file = segmentation_file(study.series_uid, newest["series"], store)
    read_back = sitk.ReadImage(str(file))
    file.unlink()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_back).transpose(), labels(study))
    image = sitk.ReadImage(store.get_image_uri(study.series_uid))
    np.testing.assert_allclose(read_back.GetOrigin(), image.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(read_back.GetDirection(), image.GetDirection(), atol=1e-5)
    with pytest.raises(HTTPException, match="has no DICOM SEG") as refused:
        segmentation_file(study.series_uid, "1.2.3", store)
    assert refused.value.status_code == 404
    pacs.is_out_of_reach = True
    with pytest.raises(HTTPException, match="does not answer") as refused:
        list_segmentations(study.series_uid, store)
    assert refused.value.status_code == 503


def test_newest_wins(
    store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    small, big = (labels(study) == 2).astype(np.uint8), (labels(study) > 0).astype(np.uint8)
    save(store, study, small, ("kidney tumor",), tmp_path)
    as_if_of_ohif(pacs, "20500101 120000")
    save(store, study, big, ("kidney tumor",), tmp_path)
    as_if_of_ohif(pacs, "20490101 120000")
    np.testing.assert_array_equal(only_case(read(store, kept, study)).read().labels, small)
    pacs.stored.reverse()
    np.testing.assert_array_equal(only_case(read(store, kept, study)).read().labels, small)
    # Older than what is kept already.
    as_if_of_ohif(pacs, "20200101 120000")
    np.testing.assert_array_equal(only_case(read(store, kept, study)).read().labels, small)


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The server's own time zone, nine hours before UTC."""
    with monkeypatch.context() as context:
        context.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("older", "offset", "newer", "newer_offset"),
    [
        pytest.param("120000", "+0900", "040000", "+0000", id="both"),
        pytest.param("040000", "+0000", "000000", "-0500", id="west"),
        pytest.param("120000", None, "040000", "+0000", id="older in the server's zone"),
        pytest.param("130000", "+1100", "120000", None, id="newer in the server's zone"),
        pytest.param("120000", "Tokyo", "040000", "+0000", id="no offset as DICOM has it"),
    ],
)
@pytest.mark.usefixtures("tokyo")
def test_newest_wins_wherever_its_clock_stands(
    store: DICOMWebDatastore,
    kept: LabelSnapshots,
    study: Study,
    tmp_path: Path,
    pacs: PacsWithSegs,
    older: str,
    offset: str | None,
    newer: str,
    newer_offset: str | None,
) -> None:
    small, big = (labels(study) == 2).astype(np.uint8), (labels(study) > 0).astype(np.uint8)
    for voxels, at, from_utc in ((small, newer, newer_offset), (big, older, offset)):
        save(store, study, voxels, ("kidney tumor",), tmp_path)
        seg = as_if_of_ohif(pacs, f"20500101 {at}")
        if from_utc is not None:
            seg.TimezoneOffsetFromUTC = from_utc
    np.testing.assert_array_equal(only_case(read(store, kept, study)).read().labels, small)
    pacs.stored.reverse()
    np.testing.assert_array_equal(only_case(read(store, kept, study)).read().labels, small)


def test_seg_of_others_is_no_truth(
    store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    save(store, study, labels(study), NAMES, tmp_path)
    forget(store)
    as_if_of_ohif(pacs)
    assert read(store, kept, study, clicked=set()) == []
    assert read(store, kept, study, expected=["lesion"]) == []
    pacs.stored[-1].SegmentSequence[1].SegmentLabel = "Niere"
    pacs.stored[:-1] = []
    assert read(store, kept, study) == []
    del pacs.stored[-1].ReferencedSeriesSequence
    assert read(store, kept, study) == []


def keep_frames(seg: Dataset, places: list[int]) -> None:
    """Leaves frames of a SEG, as if nothing had been drawn on the other slices."""
    frames = list(seg.PerFrameFunctionalGroupsSequence)
    size = seg.Rows * seg.Columns // 8
    assert seg.Rows * seg.Columns % 8 == 0
    seg.PixelData = b"".join(seg.PixelData[place * size : (place + 1) * size] for place in places)
    seg.PerFrameFunctionalGroupsSequence = [frames[place] for place in places]
    seg.NumberOfFrames = len(places)


def ball(study: Study) -> np.ndarray:
    """One structure on nine slices of the series."""
    voxels = np.zeros(study.image.shape, np.uint8)
    voxels[4:20, 5:18, 3:12] = 1
    return voxels


def stored_ball(store: DICOMWebDatastore, study: Study, tmp_path: Path, pacs: PacsWithSegs) -> tuple[Dataset, int]:
    """A SEG of a viewer with one segment, and its number of frames."""
    save(store, study, ball(study), ("lesion",), tmp_path)
    forget(store)
    seg = as_if_of_ohif(pacs)
    return seg, len(seg.PerFrameFunctionalGroupsSequence)


@pytest.mark.parametrize("declared", [None, "1", "2", "4", "20"])
def test_distance_of_slices_is_that_of_the_image_whatever_the_seg_declares(
    store: DICOMWebDatastore,
    kept: LabelSnapshots,
    study: Study,
    tmp_path: Path,
    pacs: PacsWithSegs,
    declared: str | None,
) -> None:
    seg, _ = stored_ball(store, study, tmp_path, pacs)
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if declared is None:
        del measures.SpacingBetweenSlices
    else:
        measures.SpacingBetweenSlices = declared
    measures.SliceThickness = "5"
    np.testing.assert_array_equal(only_case(read(store, kept, study), CT).read().labels, ball(study))


def test_gap_between_slices_is_not_filled_and_said(
    store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    seg, count = stored_ball(store, study, tmp_path, pacs)
    keep_frames(seg, [place for place in range(count) if place not in (3, 4)])
    found = read_submitted(read(store, kept, study), Learner(CT), PatientBook().patient_of)
    (case,) = found.cases
    assert any("'lesion' has 2 empty slices between others" in note for note in found.notes)
    drawn = case.read().labels
    assert drawn.sum() == ball(study).sum() * (count - 2) // count and not (drawn > ball(study)).any()


def test_segment_on_every_second_slice_is_left_out_with_a_reason(
    store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    seg, count = stored_ball(store, study, tmp_path, pacs)
    keep_frames(seg, list(range(0, count, 2)))
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = str(2 * float(measures.SpacingBetweenSlices))  # as if they were thick slices
    found = read_submitted(read(store, kept, study), Learner(CT), PatientBook().patient_of)
    assert not found.cases and "no neighbours" in found.skipped[0].reason and "interpolate" in found.skipped[0].reason


def test_numbered_and_other_segments(
    store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    save(store, study, labels(study), ("spleen", "Kidney tumor #2"), tmp_path)
    forget(store)
    as_if_of_ohif(pacs)
    found = read_submitted(read(store, kept, study), Learner(KITS), PatientBook().patient_of)
    assert found.cases[0].names == ("kidney tumor",)
    assert any("'spleen' is left out" in note for note in found.notes)


def test_damaged_seg_is_left_out_with_a_warning(
    store: DICOMWebDatastore,
    kept: LabelSnapshots,
    study: Study,
    tmp_path: Path,
    pacs: PacsWithSegs,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save(store, study, labels(study), NAMES, tmp_path)
    forget(store)
    as_if_of_ohif(pacs).PixelData = b"\0\0"
    (found,) = read(store, kept, study)
    assert found.image_id == study.series_uid and "its newest DICOM SEG cannot be used" in found.problem
    assert "is left out" in caplog.text


def with_empty_cache(pacs: PacsWithSegs, folder: Path) -> DICOMWebDatastore:
    """As after the container was made anew."""
    shutil.rmtree(folder / "cache")
    return open_store(pacs, folder)


def test_image_that_the_cache_has_lost_is_fetched_again(
    store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    save(store, study, labels(study), NAMES, tmp_path)
    before = only_case(read(store, kept, study))
    voxels = before.read().image
    store = with_empty_cache(pacs, tmp_path)
    assert not before.image.exists()
    after = only_case(read(store, kept, study))
    np.testing.assert_array_equal(after.read().image, voxels)
    np.testing.assert_array_equal(after.read().labels == 1, labels(study) == 2)
    assert after.patient == before.patient


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(lambda _: [], "has no such series"), (requests.ConnectionError("refused"), "DICOMweb server")],
)
def test_label_whose_image_is_gone_for_good_is_left_out_with_the_reason(
    store: DICOMWebDatastore,
    kept: LabelSnapshots,
    study: Study,
    tmp_path: Path,
    pacs: PacsWithSegs,
    answer: Any,
    reason: str,
) -> None:
    save(store, study, labels(study), NAMES, tmp_path)
    read(store, kept, study)
    (label,) = kept.labels()
    kept.keep(replace(label, image_id="1.2.3", image=tmp_path / "other.nii.gz"), 2.0)
    store = with_empty_cache(pacs, tmp_path)
    asked = []

    def send(instances: list) -> list:
        asked.append(1)
        if isinstance(answer, Exception):
            raise answer
        return answer(instances)

    pacs.send = send
    submitted = read_submitted(read(store, kept, study), Learner(KITS), PatientBook().patient_of)
    assert submitted.cases == () and {one.image_id for one in submitted.skipped} == {"1.2.3", study.series_uid}
    own = next(one for one in submitted.skipped if one.image_id == study.series_uid)
    assert "its image could not be fetched again" in own.reason and reason in own.reason
    assert own.sentence.endswith(".") and not own.sentence.endswith("..")


def test_image_that_the_cache_has_lost_is_still_of_its_modality(
    store: DICOMWebDatastore, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    """Whatever was clicked with: DICOM says it."""
    log = AuditLog(tmp_path / "audit", 2**20)
    log.append({"image_id_hash": log.name_hash(study.series_uid), "preset": "mr"})
    registry = Registry(tmp_path / "learning")
    save(store, study, labels(study), NAMES, tmp_path)
    for lose in (False, True):
        used = with_empty_cache(pacs, tmp_path) if lose else store
        material = FineTuneTask(MR, APP_DIR, registry, log, None).training_data(used)
        assert not material.train and not material.validation
        assert "its image is CT, and mr is for MR" in material.skipped[0]
        assert FineTuneTask(CT, APP_DIR, registry, log, None).training_data(used).train


def test_a_rejected_label_of_a_pacs_is_not_learned_from(
    store: DICOMWebDatastore, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    registry, log = Registry(tmp_path / "learning"), AuditLog(tmp_path / "audit", 2**20)
    workflow = Workflow(registry.learning_dir)
    save(store, study, labels(study), NAMES, tmp_path)
    (label,) = workflow.read(store).labels
    assert (label.image, label.tag) == (study.series_uid, "final")

    def learned(used: DICOMWebDatastore, train_on: str = "submitted") -> tuple[int, list[str]]:
        data = FineTuneTask(KITS, APP_DIR, registry, log, None, train_on=train_on).training_data(used)
        return len(data.train) + len(data.validation), list(data.skipped)

    assert learned(store) == (1, []) and learned(store, "accepted")[0] == 0
    workflow.review(store, label.id, "accept", "Dr. Roe", "")
    assert store.get_label_info(study.series_uid, "final")["segmentationMeta"]["status"] == "approved"
    assert learned(store, "accepted") == (1, [])
    workflow.review(store, label.id, "reject", "Dr. Roe", "no tail")
    # The copy that training keeps is the very file, whatever becomes of the cache.
    for used in (store, with_empty_cache(pacs, tmp_path)):
        taken, (reason,) = learned(used)
        assert taken == 0 and "it was rejected" in reason


@pytest.mark.parametrize(("is_away", "count"), [(True, 1), (False, 3)])
def test_pacs_that_does_not_answer_is_asked_for_one_image(
    store: DICOMWebDatastore,
    kept: LabelSnapshots,
    study: Study,
    tmp_path: Path,
    pacs: PacsWithSegs,
    monkeypatch: pytest.MonkeyPatch,
    is_away: bool,
    count: int,
) -> None:
    """One that just fails to send a series is asked for the others as well."""
    save(store, study, labels(study), NAMES, tmp_path)
    read(store, kept, study)
    (label,) = kept.labels()
    for number in range(3):
        kept.keep(replace(label, image_id=f"1.2.{number}", image=tmp_path / "gone.nii.gz"), 2.0)
    asked = []

    def away(image_id: str, _: object) -> None:
        asked.append(image_id)
        raise HTTPException(503, "The DICOMweb server does not answer. Try again later.")

    monkeypatch.setattr("lib.host.pacs.labels.fetch_series", away)
    pacs.is_out_of_reach = is_away
    found = read(store, kept, study)
    assert len(asked) == count and sorted(bool(one.problem) for one in found) == [False, True, True, True]


def test_damaged_note_is_passed_over(
    store: DICOMWebDatastore, kept: LabelSnapshots, study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(store, study, labels(study), NAMES, tmp_path)
    read(store, kept, study)
    (note,) = kept.folder.glob("*.json")
    note.write_text(note.read_text()[:40])
    assert kept.labels() == [] and "damaged" in caplog.text
    assert len(read(store, kept, study)) == 1
    assert len(list(kept.folder.iterdir())) == 2


def test_host_takes_any_seg_without_names_and_loses_it_again(
    store: DICOMWebDatastore, study: Study, tmp_path: Path, pacs: PacsWithSegs
) -> None:
    save(store, study, labels(study), NAMES, tmp_path)
    forget(store)
    as_if_of_ohif(pacs).SegmentSequence[0].SegmentLabel = "whatever"
    (pair,) = store.datalist()
    assert sitk.ReadImage(pair["label"]).GetSize() != study.image.shape
    assert "label_info" not in store.get_label_info(study.series_uid, "final")
    pacs.stored.clear()
    store.datalist()
    assert not Path(pair["label"]).exists()
