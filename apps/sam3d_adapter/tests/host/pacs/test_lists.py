"""What a PACS has and what of it is labelled, as of half a minute ago."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import requests
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from pydicom.dataset import Dataset

from lib.activelearning.least_recently_served import LeastRecentlyServed
from lib.host.pacs.lists import EXPIRY_S, PacsLists, modalities_for, one_by_one, with_fresh_lists
from lib.host.pacs.seg_reading import is_of_this_program, why_not_learned_from
from lib.host.workflow import Workflow
from lib.presets import load_preset

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
FILTER, EXPIRY = "MONAI_LABEL_DICOMWEB_SEARCH_FILTER", "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_seg(name: str, *, frames: int = 1, kind: str = "BINARY", algorithm: str = "Brush") -> Dataset:
    """A DICOM SEG of one segment, as a PACS describes it."""
    seg, segment, frame, of = Dataset(), Dataset(), Dataset(), Dataset()
    segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmName = 1, name, algorithm
    of.ReferencedSegmentNumber = 1
    frame.SegmentIdentificationSequence = [of]
    seg.SegmentSequence, seg.SegmentationType = [segment], kind
    seg.SharedFunctionalGroupsSequence, seg.PerFrameFunctionalGroupsSequence = [Dataset()], [frame] * frames
    return seg


class Queried:
    """A DICOMweb client that matches one value per attribute, as QIDO-RS promises no more, and counts questions."""

    base_url = "http://pacs.test/dicom-web"

    def __init__(self) -> None:
        self.series: dict[str, str] = {"1.1": "CT", "1.2": "CT", "1.3": "MR", "1.4": "PT", "1.5": "US"}
        self.segs: dict[str, str | None] = {}
        self.names: dict[str, str] = {}
        self.queries, self.metadata = 0, 0
        self.error: Exception | None = None
        self.damaged: set[str] = set()

    def search_for_series(self, search_filters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        self.queries += 1
        if self.error is not None:
            raise self.error
        wanted = search_filters or {}
        assert all(isinstance(value, str) for value in wanted.values()), wanted
        found = self.series | dict.fromkeys(self.segs, "SEG")
        return [self._described(uid) for uid, kind in found.items() if wanted.get("Modality", kind) == kind]

    def retrieve_series_metadata(self, study: str, series: str) -> list[dict[str, Any]]:
        self.metadata += 1
        if series in self.damaged:
            raise requests.HTTPError("404")
        if self.error is not None:
            raise self.error
        seg, image = a_seg(self.names.get(series, "lesion")), self.segs[series]
        if image is not None:
            seg.ReferencedSeriesSequence = [Dataset()]
            seg.ReferencedSeriesSequence[0].SeriesInstanceUID = image
        return [seg.to_json_dict()]

    @staticmethod
    def _described(uid: str) -> dict[str, Any]:
        found = Dataset()
        found.SeriesInstanceUID, found.StudyInstanceUID = uid, "9"
        return found.to_json_dict()


@pytest.fixture
def pacs() -> Queried:
    return Queried()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lists(pacs: Queried, clock: Clock) -> PacsLists:
    return PacsLists(pacs, {"Modality": ["CT", "MR", "PT"]}, 30, ["lesion"], clock=clock)


@pytest.fixture
def _nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a server that was started without these variables, which MONAI Label itself puts into its environment."""
    chosen = settings.model_fields_set - {FILTER, EXPIRY}
    monkeypatch.setattr(settings, "__pydantic_fields_set__", chosen)
    monkeypatch.setenv(FILTER, '{"Modality": "CT"}')
    monkeypatch.setenv(EXPIRY, "7200")


def open_store(pacs: Queried, folder: Path) -> DICOMWebDatastore:
    store = DICOMWebDatastore(pacs, {"Modality": "CT"}, cache_path=str(folder / "cache"))
    store._observer.stop()  # watches the folder, which the test takes away
    return store


def test_all_modalities_are_listed(lists: PacsLists, pacs: Queried) -> None:
    assert lists.images() == ["1.1", "1.2", "1.3", "1.4"]
    pacs.segs |= {"2.1": "1.3", "2.2": "1.3", "2.3": "1.5", "2.4": None}
    assert lists.labelled() == ["1.3"]


def test_what_nothing_can_learn_from_makes_no_case_labelled(lists: PacsLists, pacs: Queried) -> None:
    pacs.segs |= {f"2.{number}": "1.1" for number in range(4)}
    pacs.names |= {"2.0": "Liver", "2.1": "Segment 1", "2.2": "", "2.3": "lesions"}
    assert lists.labelled() == []
    pacs.segs["2.4"] = "1.2"
    pacs.names["2.4"] = "Lesion 3"
    lists.forget_labelled()
    assert lists.labelled() == ["1.2"]


@pytest.mark.parametrize(
    ("seg", "said"),
    [
        (a_seg("lesion"), ""),
        (a_seg("lesion_2", kind="FRACTIONAL"), ""),
        (a_seg("lesion", kind="LABELMAP"), ""),
        (a_seg("lesion", frames=0), "nothing is drawn"),
        (a_seg("lesion", kind="SURFACE"), "its type is 'SURFACE'"),
        (a_seg("liver"), "none of its segments"),
        (Dataset(), "none of its segments"),
    ],
)
def test_why_nothing_learns_from_it(seg: Dataset, said: str) -> None:
    found = why_not_learned_from(seg, {"lesion"})
    assert said in found if said else not found


def test_what_was_saved_here_counts_under_any_name() -> None:
    names = ("sam3d_adapter ct 7", "MONAILABEL", "Brush")
    assert [is_of_this_program(a_seg("Niere", algorithm=name)) for name in names] == [True, True, False]


def test_lists_are_renewed_when_they_expire_and_not_before(lists: PacsLists, pacs: Queried, clock: Clock) -> None:
    assert len(lists.images()) == 4 and lists.labelled() == []
    asked = pacs.queries
    pacs.series["1.6"] = "MR"
    pacs.segs["2.1"] = "1.1"
    clock.now = 29.9
    assert "1.6" not in lists.images() and lists.labelled() == [] and pacs.queries == asked
    clock.now = 30
    assert "1.6" in lists.images() and lists.labelled() == ["1.1"]
    del pacs.segs["2.1"], pacs.series["1.6"]
    clock.now = 60
    assert lists.labelled() == [] and "1.6" not in lists.images()


def test_a_segmentation_is_asked_about_once(lists: PacsLists, pacs: Queried, clock: Clock) -> None:
    pacs.segs |= {f"2.{number}": "1.1" for number in range(50)}
    for _ in range(5):
        assert lists.labelled() == ["1.1"]
        clock.now += 31
    assert pacs.metadata == 50


def test_what_was_given_out_may_be_changed(lists: PacsLists) -> None:
    lists.images().clear()
    assert len(lists.images()) == 4


def test_a_damaged_segmentation_hides_no_other_and_is_asked_about_again(
    lists: PacsLists, pacs: Queried, clock: Clock
) -> None:
    pacs.segs |= {"2.1": "1.1", "2.2": "1.2"}
    pacs.damaged = {"2.1"}
    assert lists.labelled() == ["1.2"]
    pacs.damaged, clock.now = set(), 31
    assert lists.labelled() == ["1.1", "1.2"]


@pytest.mark.parametrize("error", [requests.ConnectionError("down"), requests.Timeout("slow"), ValueError("odd")])
def test_a_pacs_that_falls_silent_keeps_what_it_had(
    lists: PacsLists, pacs: Queried, clock: Clock, error: Exception
) -> None:
    pacs.segs["2.1"] = "1.1"
    images, labelled = lists.images(), lists.labelled()
    pacs.error, clock.now = error, 31
    asked = pacs.queries
    for _ in range(4):
        assert (lists.images(), lists.labelled()) == (images, labelled)
    assert pacs.queries == asked + 2  # not once for every click
    pacs.error, clock.now = None, 62
    pacs.series["1.6"] = "CT"
    assert "1.6" in lists.images()


def test_a_pacs_that_falls_silent_between_two_questions_keeps_what_it_had(
    lists: PacsLists, pacs: Queried, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacs.segs["2.1"] = "1.1"
    assert lists.labelled() == ["1.1"]
    pacs.segs |= {"2.2": "1.2"}
    clock.now = 31

    def silent(study: str, series: str) -> Any:
        raise requests.ConnectionError("down")

    monkeypatch.setattr(pacs, "retrieve_series_metadata", silent)
    assert lists.labelled() == ["1.1"]


def test_a_pacs_that_never_answered_is_an_error(lists: PacsLists, pacs: Queried) -> None:
    pacs.error = requests.ConnectionError("down")
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            lists.images()


@pytest.mark.parametrize(
    ("wanted", "filters"),
    [
        ({}, [{}]),
        ({"Modality": "MR"}, [{"Modality": "MR"}]),
        (
            {"Modality": ["CT", "MR"], "PatientID": "7", "BodyPartExamined": ["LEG", "ARM"]},
            [
                {"Modality": modality, "PatientID": "7", "BodyPartExamined": part}
                for modality in ("CT", "MR")
                for part in ("LEG", "ARM")
            ],
        ),
        ({"Modality": []}, []),
    ],
)
def test_a_list_of_values_means_any_of_them(wanted: dict, filters: list[dict]) -> None:
    assert one_by_one(wanted) == filters


def test_modalities_of_the_presets() -> None:
    ct, kits, mr, pet = (load_preset(CONFIGS / f"{name}.yaml") for name in ("ct", "kits", "mr", "pet"))
    assert modalities_for([ct, kits]) == ["CT"]
    for presets in ([ct, mr], [pet], [mr]):
        assert modalities_for(presets) == ["CT", "MR", "PT"]


@pytest.mark.usefixtures("_nothing_chosen")
def test_next_sample_sees_mr_and_never_what_is_labelled(
    pacs: Queried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored(store: Any, image: str, *rest: Any) -> str:
        pacs.segs[f"2.{image}"] = image
        return image

    # What it does beside the PACS has tests of its own.
    monkeypatch.setattr(DICOMWebDatastore, "save_label", stored)
    store = with_fresh_lists(open_store(pacs, tmp_path), ["CT", "MR", "PT"], ["lesion"])
    strategy = LeastRecentlyServed(Workflow(tmp_path))

    def served(n: int) -> set[str]:
        return {strategy({"client_id": "anna"}, store)["id"] for _ in range(n)}

    assert served(8) == {"1.1", "1.2", "1.3", "1.4"}
    store.save_label("1.1", "label.nii.gz", "final", {})
    store.save_label("1.3", "label.nii.gz", "final", {})
    assert served(8) == {"1.2", "1.4"}
    assert store.status()["total"] == 4 and store.status()["completed"] == 2


@pytest.mark.usefixtures("_nothing_chosen")
def test_background_tasks_are_told(pacs: Queried, tmp_path: Path) -> None:
    with_fresh_lists(open_store(pacs, tmp_path), ["CT", "MR"], ["lesion"])
    assert json.loads(os.environ[FILTER]) == {"Modality": ["CT", "MR"]}
    assert os.environ[EXPIRY] == str(EXPIRY_S)


@pytest.mark.usefixtures("_nothing_chosen")
@pytest.mark.parametrize(("wanted", "listed"), [({"Modality": "CT"}, 2), ({"Modality": ["MR", "US"]}, 2), ({}, 5)])
def test_an_administrator_s_choice_holds(
    pacs: Queried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: dict, listed: int
) -> None:
    monkeypatch.setattr(settings, FILTER, wanted)
    monkeypatch.setattr(settings, EXPIRY, 3600)
    store = with_fresh_lists(open_store(pacs, tmp_path), ["CT", "MR", "PT"], ["lesion"])
    assert len(store.list_images()) == listed
    assert json.loads(os.environ[FILTER]) == wanted and os.environ[EXPIRY] == "3600"


def test_a_folder_is_left_alone(tmp_path: Path) -> None:
    store = LocalDatastore(str(tmp_path), auto_reload=False)
    before = dict(vars(store))
    assert with_fresh_lists(store, ["CT"], []) is store and vars(store) == before


def test_still_needed(pacs: Queried, tmp_path: Path) -> None:
    """MONAI Label as it is, with its defaults; the day this fails, the patch can go."""
    store = open_store(pacs, tmp_path)
    assert sorted(store.list_images()) == ["1.1", "1.2"]
    assert type(settings).model_fields[EXPIRY].default == 7200
    with pytest.raises(AssertionError):  # several values are sent as one
        DICOMWebDatastore(pacs, {"Modality": ["CT", "MR"]}, cache_path=str(tmp_path / "b")).list_images()
