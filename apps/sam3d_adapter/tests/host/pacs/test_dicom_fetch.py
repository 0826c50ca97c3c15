"""Series of a PACS: fetched whole, checked, and told apart from a PACS that fails."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.datastore.utils.convert import dicom_to_nifti
from pydicom.encaps import encapsulate
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid

from lib.host.pacs import dicom_fetch, series_copy
from lib.host.pacs.dicom_fetch import MAX_PAUSE_S, MIN_PAUSE_S, fetch_series
from lib.host.pacs.series_copy import IncompleteTransfer, SeriesCopy
from lib.host.patches.image_access import admit_image
from lib.volumes.modality import source_modality
from lib.volumes.read import read_volume
from tests.support.dicom_study import Study
from tests.support.odd_series import ODD, as_file, copied, make_series, multi_frame
from tests.support.pacs import Pacs, open_store

# ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")


def restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new process knows nothing of the series in the cache."""
    monkeypatch.setattr(dicom_fetch, "_series", {})


def fetched(store: DICOMWebDatastore, study: Study) -> np.ndarray:
    fetch_series(study.series_uid, store)
    return np.asarray(nib.load(store.get_image_uri(study.series_uid)).dataobj)


def half(instances: list) -> Any:
    """A transfer that breaks off."""
    yield from instances[:8]
    raise requests.ConnectionError("reset")


def refusal(store: DICOMWebDatastore, image: str) -> HTTPException:
    with pytest.raises(HTTPException) as caught:
        fetch_series(image, store)
    return caught.value


def test_regular_series_is_fetched_and_converted(tmp_path: Path, study: Study) -> None:
    store = open_store(Pacs(list(study.instances)), tmp_path)
    fetch_series(study.series_uid, store)
    assert Path(store.get_image_uri(study.series_uid)).is_file()
    assert source_modality(Path(store.get_image_uri(study.series_uid))) == "CT"
    assert admit_image({"image": study.series_uid}, store, None)["image"] == study.series_uid


@pytest.mark.parametrize("name", sorted(set(ODD) - {"two series"}))
def test_odd_series_are_refused_again_and_again(tmp_path: Path, study: Study, name: str) -> None:
    make, words = ODD[name]
    instances = make(study)
    store = open_store(Pacs(instances), tmp_path)
    for _ in range(2):
        error = refusal(store, str(instances[0].SeriesInstanceUID))
        assert error.status_code == 422
        assert all(word in error.detail for word in words), error.detail
    assert store._client.asked.count("slices") == 1  # asked each time whether there are others, but there are not


def test_transfer_that_broke_off_is_repeated(tmp_path: Path, study: Study) -> None:
    """MONAI Label alone would take the half for the whole ever after."""
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    pacs.send = half
    assert refusal(store, study.series_uid).status_code == 503
    pacs.send = list
    fetch_series(study.series_uid, store)
    assert np.asarray(nib.load(store.get_image_uri(study.series_uid)).dataobj).shape == study.image.shape


def test_host_alone_takes_the_half_for_the_whole(tmp_path: Path, study: Study) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    pacs.send = half
    with pytest.raises(requests.ConnectionError):
        store.get_image_uri(study.series_uid)
    pacs.send = list
    assert np.asarray(nib.load(store.get_image_uri(study.series_uid)).dataobj).shape[2] == 8


def test_host_alone_closes_the_gap(tmp_path: Path, study: Study) -> None:
    instances = ODD["missing slice"][0](study)
    store = open_store(Pacs(instances), tmp_path)
    assert Path(store.get_image_uri(study.series_uid)).is_file()  # 15 slices, as if 2 mm apart or a little more


@pytest.mark.parametrize(
    ("error", "status"),
    [(requests.ConnectionError("refused"), 503), (requests.HTTPError("500"), 503), (OSError(28, "full"), 503)],
)
def test_pacs_or_disk_that_fails(tmp_path: Path, study: Study, error: Exception, status: int) -> None:
    def fail(instances: list) -> list:
        raise error

    pacs = Pacs(list(study.instances))
    pacs.send = fail
    found = refusal(open_store(pacs, tmp_path), study.series_uid)
    assert found.status_code == status and "try again" in found.detail.lower()


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (IncompleteTransfer("8 slices came of 16."), 503, "did not send this series to the end: 8 slices came of 16"),
        (InvalidDicomError("no DICM"), 503, "DICOMweb server sent what is no DICOM"),
        (KeyError("ours"), 500, "no fault of the DICOMweb server"),
        (ValueError("ours"), 500, "no fault of the DICOMweb server"),
    ],
)
def test_whose_fault_it_is(tmp_path: Path, study: Study, error: Exception, status: int, words: str) -> None:
    def fail(instances: list) -> list:
        raise error

    pacs = Pacs(list(study.instances))
    pacs.send = fail
    found = refusal(open_store(pacs, tmp_path), study.series_uid)
    assert found.status_code == status and words in found.detail
    assert ("to the end" in found.detail) == isinstance(error, IncompleteTransfer)


def without_voxels(study: Study) -> list:
    """Slices whole by their headers, packed in a way that nobody knows."""
    slices = [copied(instance) for instance in study.instances]
    for instance in slices:
        instance.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.51"
        instance.PixelData = encapsulate([b"no JPEG at all"])
        instance["PixelData"].is_undefined_length = True
    return slices


def test_voxels_that_cannot_be_read_are_no_fault_of_the_transfer(tmp_path: Path, study: Study) -> None:
    pacs = Pacs(without_voxels(study))
    store = open_store(pacs, tmp_path)
    for _ in range(3):
        found = refusal(store, study.series_uid)
        assert found.status_code == 422 and "All slices of this series came" in found.detail
    assert pacs.asked.count("slices") == 1
    pacs.instances = [copied(instance) for instance in study.instances]
    for instance in pacs.instances:
        instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    np.testing.assert_array_equal(fetched(store, study), study.image)


def test_copy_that_was_damaged_here_is_fetched_anew(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    fetch_series(study.series_uid, store)
    copy = SeriesCopy(study.series_uid, store)
    for instance in without_voxels(study):
        (copy.folder / f"{instance.SOPInstanceUID}.dcm").write_bytes(as_file(instance))
    Path(store.get_image_uri(study.series_uid)).unlink()
    restart(monkeypatch)
    found = refusal(store, study.series_uid)
    assert found.status_code == 503 and "copy of this series on this server is damaged" in found.detail
    np.testing.assert_array_equal(fetched(store, study), study.image)


def test_values_that_a_former_release_turned_round_are_converted_anew(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = [copied(instance) for instance in study.instances]
    for instance in slices:
        instance.PhotometricInterpretation = "MONOCHROME1"
    store = open_store(Pacs(slices), tmp_path)
    before = np.asarray(nib.load(store.get_image_uri(study.series_uid)).dataobj)
    assert not np.array_equal(before, study.image)
    np.testing.assert_array_equal(fetched(store, study), study.image)
    nifti = Path(store.get_image_uri(study.series_uid))
    made = nifti.stat().st_mtime_ns
    fetch_series(study.series_uid, store)
    assert nifti.stat().st_mtime_ns == made


def test_unknown_series(tmp_path: Path, study: Study) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    assert refusal(store, "1.2.3").status_code == 404
    for image in ("1.2.840.2", "../1.2", "1.2/../../x", "case_1"):
        with pytest.raises(HTTPException) as caught:
            admit_image({"image": image}, store, None)
        assert caught.value.status_code == 404
    assert set(pacs.asked) == {"list", "1.2.3", "1.2.840.2"}  # no path ever reaches the PACS


def test_new_series_is_asked_for_by_its_uid(tmp_path: Path, study: Study) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    store.list_images = lambda: []  # as long as the host's list is kept
    assert admit_image({"image": study.series_uid}, store, None)["image"] == study.series_uid


def by_height(study: Study) -> list:
    return sorted(study.instances, key=lambda instance: float(instance.ImagePositionPatient[2]))


def test_series_with_a_gap_is_completed_when_the_slice_has_arrived(tmp_path: Path, study: Study) -> None:
    slices = by_height(study)
    pacs = Pacs(slices[:5] + slices[6:])
    store = open_store(pacs, tmp_path)
    for _ in range(2):
        assert refusal(store, study.series_uid).status_code == 422
    pacs.instances = slices
    np.testing.assert_array_equal(fetched(store, study), study.image)
    assert pacs.asked.count("slices") == 2


def test_series_whose_end_arrives_later_is_completed(tmp_path: Path, study: Study, clock: list[float]) -> None:
    """What came first looks whole, and a mask on it would lie three slices off in the viewer."""
    slices = by_height(study)
    pacs = Pacs(slices[3:])
    store = open_store(pacs, tmp_path)
    np.testing.assert_array_equal(fetched(store, study), study.image[:, :, 3:])
    pacs.instances = slices
    clock[0] += MIN_PAUSE_S + 1
    np.testing.assert_array_equal(fetched(store, study), study.image)


def test_series_that_is_completed_before_its_first_use_is_no_change(tmp_path: Path, study: Study) -> None:
    slices = by_height(study)
    pacs = Pacs(slices[:5] + slices[6:])
    store = open_store(pacs, tmp_path)
    assert refusal(store, study.series_uid).status_code == 422
    pacs.instances = slices
    assert admit_image({"image": study.series_uid}, store, None)["image"] == study.series_uid


def test_slices_that_left_the_pacs_leave_the_series(tmp_path: Path, study: Study) -> None:
    pacs = Pacs(ODD["two phases"][0](study))
    store = open_store(pacs, tmp_path)
    assert refusal(store, study.series_uid).status_code == 422
    pacs.instances = list(study.instances)
    np.testing.assert_array_equal(fetched(store, study), study.image)


def test_labels_outlive_the_completion(tmp_path: Path, study: Study, clock: list[float]) -> None:
    slices = by_height(study)
    pacs = Pacs(slices[3:])
    store = open_store(pacs, tmp_path)
    fetched(store, study)
    drawn = tmp_path / "drawn.nrrd"
    drawn.write_bytes(b"a label")
    LocalDatastore.save_label(store, study.series_uid, str(drawn), "final", {"label_info": [{"name": "lesion"}]})
    pacs.instances = slices
    clock[0] += MIN_PAUSE_S + 1
    assert fetched(store, study).shape == study.image.shape
    store.refresh()  # as the host does on any change in the folder
    assert store.get_label_info(study.series_uid, "final")["label_info"] == [{"name": "lesion"}]
    assert Path(LocalDatastore.get_label_uri(store, study.series_uid, "final")).read_bytes() == b"a label"
    assert store.get_image_info(study.series_uid)["StudyInstanceUID"] == study.study_uid


def test_warm_dialogue_asks_the_pacs_rarely_and_fetches_nothing(
    tmp_path: Path, study: Study, clock: list[float]
) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    hour = 3600
    for _ in range(hour):
        clock[0] += 1
        fetch_series(study.series_uid, store)
    asked = pacs.asked.count("instances")
    assert hour / MAX_PAUSE_S <= asked <= hour / MAX_PAUSE_S + np.log2(MAX_PAUSE_S / MIN_PAUSE_S) + 3
    assert pacs.asked.count("slices") == 1


def test_pacs_that_is_silent_is_waited_for_once_and_not_long(
    tmp_path: Path, study: Study, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    fetched(store, study)
    clock[0] += MIN_PAUSE_S + 1
    pacs.is_silent = True
    assert fetched(store, study).shape == study.image.shape
    wake, asked = threading.Event(), []

    def hang(*_: str) -> list:
        asked.append(1)
        wake.wait(30)
        return []

    monkeypatch.setattr(pacs, "search_for_instances", hang)
    monkeypatch.setattr(dicom_fetch, "WAIT_S", 0.05)
    clock[0] += MAX_PAUSE_S + 1
    began = time.perf_counter()
    for _ in range(20):
        assert fetched(store, study).shape == study.image.shape
    assert len(asked) == 1 and time.perf_counter() - began < 5
    wake.set()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """UIDs of the series that a PACS is asked about that answers when the test is over; nobody waits for it long."""
    wake, asked = threading.Event(), list[str]()

    def hang(_: Pacs, study: str, series: str) -> list:
        asked.append(series)
        assert wake.wait(60)
        return []

    monkeypatch.setattr(dicom_fetch, "WAIT_S", 0.05)
    monkeypatch.setattr(Pacs, "search_for_instances", hang)
    yield asked
    wake.set()


def listing_threads() -> int:
    return sum(thread.name.startswith("series-listing") for thread in threading.enumerate())


def test_refused_series_asks_a_silent_pacs_one_question_at_a_time(
    tmp_path: Path, study: Study, request: pytest.FixtureRequest
) -> None:
    slices = by_height(study)
    store = open_store(Pacs(slices[:5] + slices[6:]), tmp_path)
    assert refusal(store, study.series_uid).status_code == 422
    asked = request.getfixturevalue("hanging")
    for _ in range(20):
        assert refusal(store, study.series_uid).status_code == 422
    assert asked == [study.series_uid] and listing_threads() <= series_copy.WORKERS


def test_silent_pacs_is_asked_about_few_series_at_once(tmp_path: Path, study: Study, hanging: list[str]) -> None:
    store = open_store(Pacs(list(study.instances)), tmp_path)
    store._datastore.objects |= {
        f"1.2.{number}": ImageLabelModel(image=DataModel(info={"StudyInstanceUID": study.study_uid}))
        for number in range(10)
    }
    for number in range(10):
        assert SeriesCopy(f"1.2.{number}", store).listed(0.05) is None
    assert len(hanging) <= series_copy.WORKERS and listing_threads() <= series_copy.WORKERS


def test_pacs_that_was_silent_is_asked_again(tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says too late is not taken for its answer to a later question."""
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    wake, has_answered = threading.Event(), threading.Event()
    answer = pacs.search_for_instances

    def late(*names: str) -> list:
        found = answer(*names)
        assert wake.wait(60)
        has_answered.set()
        return found[:3]

    with monkeypatch.context() as context:
        context.setattr(pacs, "search_for_instances", late)
        assert SeriesCopy(study.series_uid, store).listed(0.05) is None
        wake.set()
        assert has_answered.wait(60)
    listed = SeriesCopy(study.series_uid, store).listed(60)
    assert listed == {str(instance.SOPInstanceUID) for instance in study.instances}


@pytest.mark.parametrize("is_told", [True, False])
def test_less_than_the_pacs_lists_is_not_taken_for_the_whole(tmp_path: Path, study: Study, is_told: bool) -> None:
    """The host loses the errors of slices that it fetches frame by frame."""
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    pacs.send, pacs.is_silent = lambda instances: instances[:8], not is_told
    if is_told:
        found = refusal(store, study.series_uid)
        assert found.status_code == 503 and "to the end" in found.detail
        pacs.send = list
    assert fetched(store, study).shape[2] == (16 if is_told else 8)
    assert not list((tmp_path / "cache").rglob("*.partial"))


def leave_half(folder: Path) -> None:
    for file in sorted(folder.iterdir())[8:]:
        file.unlink()


def leave_torn(folder: Path) -> None:
    file = min(folder.iterdir())
    file.write_bytes(file.read_bytes()[:300])


@pytest.mark.parametrize("damage", [leave_half, leave_torn])
@pytest.mark.parametrize("has_nifti", [True, False])
def test_what_a_killed_server_left_is_completed(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], has_nifti: bool
) -> None:
    slices = [copied(instance) for instance in by_height(study)]
    for rank, instance in enumerate(slices):
        instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = f"1.2.{100 + rank}"
    store = open_store(Pacs(slices), tmp_path)
    folder = Path(store._datastore.image_path()) / study.series_uid
    folder.mkdir()
    for instance in slices:
        (folder / f"{instance.SOPInstanceUID}.dcm").write_bytes(as_file(instance))
    damage(folder)
    if has_nifti:
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), folder.with_name(f"{folder.name}.nii.gz"))
    restart(monkeypatch)
    np.testing.assert_array_equal(fetched(store, study), study.image)


def test_nifti_of_former_slices_is_made_anew(tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server leaves it that is killed after the slices were replaced, and before their NIfTI was."""
    store = open_store(Pacs(list(study.instances)), tmp_path)
    fetched(store, study)
    nifti = Path(store.get_image_uri(study.series_uid))
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), nifti)
    os.utime(nifti, ns=(0, nifti.with_name(study.series_uid).stat().st_mtime_ns - 10**9))
    restart(monkeypatch)
    np.testing.assert_array_equal(fetched(store, study), study.image)


def test_nifti_is_made_anew_while_the_pacs_is_away(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    fetched(store, study)
    os.utime(store.get_image_uri(study.series_uid), ns=(0, 0))
    restart(monkeypatch)

    def away(*_: Any, **__: Any) -> list:
        raise requests.ConnectionError("refused")

    monkeypatch.setattr(pacs, "search_for_series", away)
    monkeypatch.setattr(pacs, "search_for_instances", away)
    np.testing.assert_array_equal(fetched(store, study), study.image)
    assert store.get_image_info(study.series_uid)["StudyInstanceUID"] == study.study_uid


def test_two_requests_at_once_fetch_once(tmp_path: Path, study: Study) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    threads = [threading.Thread(target=fetch_series, args=(study.series_uid, store)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert pacs.asked.count("slices") == 1 and fetched(store, study).shape == study.image.shape


@pytest.mark.parametrize("order", [range(16), range(15, -1, -1), [*range(0, 16, 2), *range(1, 16, 2)]])
def test_frames_in_any_order_are_converted_as_they_lie(tmp_path: Path, study: Study, order: Sequence[int]) -> None:
    frames = multi_frame(study, order=order)
    store = open_store(Pacs([frames]), tmp_path)
    fetch_series(str(frames.SeriesInstanceUID), store)
    found = nib.load(store.get_image_uri(str(frames.SeriesInstanceUID)))
    np.testing.assert_array_equal(np.asarray(found.dataobj), study.image)
    expected = np.diag([-1.0, -1, 1, 1]) @ study.geometry.index_to_lps
    np.testing.assert_allclose(found.affine, expected, atol=1e-4)


def test_what_the_host_converted_wrongly_is_converted_anew(tmp_path: Path, study: Study) -> None:
    """As it lies in caches that were filled before there was a check."""
    slices = [copied(instance) for instance in by_height(study)]
    for instance in slices[1:]:
        instance.RescaleSlope = 0.001
    for folder, instances in (("frames", [multi_frame(study, order=range(15, -1, -1))]), ("slices", slices)):
        uid = str(instances[0].SeriesInstanceUID)
        store = open_store(Pacs(instances), tmp_path / folder)
        before = np.asarray(nib.load(store.get_image_uri(uid)).dataobj)
        fetch_series(uid, store)
        after = np.asarray(nib.load(store.get_image_uri(uid)).dataobj)
        expected = study.image * np.array([1, *[0.001] * 15]) if folder == "slices" else study.image
        assert not np.allclose(before, expected)
        np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_what_the_host_converted_rightly_stays(tmp_path: Path) -> None:
    for orientation in ("axial", "sagittal", "feet_up"):
        study = make_series(orientation=orientation)
        store = open_store(Pacs(list(study.instances)), tmp_path / orientation)
        nifti = Path(store.get_image_uri(study.series_uid))
        before = nifti.stat()
        fetch_series(study.series_uid, store)
        assert (nifti.stat().st_mtime_ns, nifti.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_slices_that_are_scaled_apart_are_converted_with_their_values(tmp_path: Path, study: Study) -> None:
    slices = [copied(instance) for instance in by_height(study)]
    for instance in slices[1:]:
        instance.RescaleSlope = 0.001
    store = open_store(Pacs(slices), tmp_path)
    np.testing.assert_allclose(fetched(store, study)[:, :, 1:], study.image[:, :, 1:] * 0.001, rtol=1e-6)


def test_series_that_exceeds_the_memory_waits_until_there_is_some(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    with monkeypatch.context() as context:
        context.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=study.image.size))
        context.setattr("SimpleITK.ImageSeriesReader.Execute", lambda *_: pytest.fail("It was read."))
        for _ in range(2):
            found = refusal(store, study.series_uid)
            assert found.status_code == 503 and "of memory" in found.detail
    assert fetched(store, study).shape == study.image.shape and pacs.asked.count("slices") == 1


@pytest.mark.parametrize("is_listed", [True, False])
def test_click_on_a_series_that_cannot_be_fetched_now_is_told_so(tmp_path: Path, study: Study, is_listed: bool) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    store.list_images = lambda: [study.series_uid] * is_listed
    pacs.send = lambda instances: instances[:8]
    with pytest.raises(HTTPException) as caught:
        admit_image({"image": study.series_uid}, store, None)
    assert caught.value.status_code == 503


def test_nifti_is_the_one_that_the_host_makes(tmp_path: Path) -> None:
    """So that records of clicks on series that were fetched by a former release still find their image."""
    study = make_series(orientation="sagittal")
    store = open_store(Pacs(list(study.instances)), tmp_path)
    fetch_series(study.series_uid, store)
    ours = Path(store.get_image_uri(study.series_uid))
    hosts = dicom_to_nifti(str(ours.with_name(study.series_uid)))
    assert read_volume(ours).content_key == read_volume(Path(hosts)).content_key
    Path(hosts).unlink()


def test_host_alone_never_asks_again(tmp_path: Path, study: Study) -> None:
    slices = by_height(study)
    pacs = Pacs(slices[3:])
    store = open_store(pacs, tmp_path)
    for _ in range(2):
        assert nib.load(store.get_image_uri(study.series_uid)).shape[2] == len(slices) - 3
        pacs.instances = slices
