"""Learning to predict Dice: from patients whom a version never learned from, for that version alone."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lib.answer_warnings import answer_warning
from lib.evaluation.measure import MeasureVersion
from lib.infers import answer as answers
from lib.infers.answer import answer_request
from lib.learning import calibrate
from lib.learning.calibrate import NoCalibration, per_patient, unseen_cases
from lib.registry.version import SHIPPED, Facts
from lib.requests.request import Request
from lib.serving import predicted_dice
from lib.serving.predicted_dice import Calibration, Line
from lib.serving.preset_segmenter import OpenSegmenter, PresetSegmenter, SharedState
from lib.volumes.read import open_volume
from tests.support.hospital import Hospital
from tests.support.trained import write_trained


def case(patient: str, image: str, label: str) -> Any:
    return SimpleNamespace(patient=SimpleNamespace(name=patient), image_sha256=image, label_sha256=label)


def test_a_patient_of_whom_anything_was_learned_is_left_out_with_all_images() -> None:
    known, again, corrected, other = (
        case("Doe", "image 1", "label 1"),
        case("Doe", "image 2", "label 2"),
        case("Roe", "image 3", "label 4"),
        case("Poe", "image 5", "label 5"),
    )
    all_cases = [known, again, corrected, other]
    assert unseen_cases(all_cases, {"image 1", "label 1", "image 3", "label 3"}) == [other]
    assert unseen_cases(all_cases, set()) == all_cases


def test_a_patient_counts_once_and_not_where_a_request_failed() -> None:
    def record(patient: str, name: str, expected: float | None, mode: str, failed: bool = False) -> dict[str, Any]:
        told = {"patient": patient, "case": name, "dice": [0.5, 0.6], "failed": [False, failed]}
        return told | {"expected_dice": [0.7, expected], "mode": mode}

    def both(patient: str, name: str, expected: float | None) -> list[dict[str, Any]]:
        return [record(patient, name, expected, mode) for mode in ("random", "centre")]

    records = [*both("a", "a/1", 0.8), *both("a", "a/2", 0.8), *both("b", "b", 0.9), *both("d", "d", None)]
    failed = [record("c", "c", 0.9, "centre"), record("c", "c", 0.9, "random", failed=True)]
    expected, dice = per_patient([*records, *failed])
    assert expected == [[[0.7, 0.8]] * 2, [[0.7, 0.9]] * 2] and dice == [[[0.5, 0.6]] * 2] * 2


@pytest.fixture
def image(hospital: Hospital) -> Path:
    hospital.submit(1)
    return hospital.studies / "patient_00.nii.gz"


def opened(hospital: Hospital) -> OpenSegmenter:
    return PresetSegmenter(hospital.preset, hospital.app, SharedState.of(), hospital.versions).open("cpu")


def predicted(hospital: Hospital, image: Path, served: OpenSegmenter, **sent: Any) -> dict[str, Any] | None:
    request = Request.read({"foreground": [[10, 10, 10]], "device": "cpu", **sent}, hospital.preset.label)
    return answer_request(hospital.preset, request, open_volume(image), served).description["predicted_dice"]


def test_what_is_not_like_the_calibration_has_no_prediction(
    hospital: Hospital, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = opened(hospital)
    assert predicted(hospital, image, plain) is None
    served = replace(plain, calibration=Calibration("", 24, (Line(0.6, 0, 0.1), Line(0.8, 0, 0.1))))
    said = {"dice": 0.6, "at_least": 0.5, "share": 0.9, "patients": 24}
    assert predicted(hospital, image, served) == said
    assert predicted(hospital, image, served, foreground=[[10, 10, 10], [12, 12, 12]])["dice"] == 0.8
    assert predicted(hospital, image, served, threshold=0.4) is None
    assert predicted(hospital, image, served, box=[[5, 5, 5], [15, 15, 15]]) is None
    misleading = answer_warning("fills-body", "The mask takes nearly all of the body.")
    monkeypatch.setattr(answers, "mask_warnings", lambda *_: [misleading])
    assert predicted(hospital, image, served) is None


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_labelled_patients_are_learned_from_once_and_for_the_served_version_alone(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few that the test is short; 9 are the fewest for which there is a bound.
    for module in (calibrate, predicted_dice):
        monkeypatch.setattr(module, "MIN_PATIENTS", 9)
    hospital.submit(8)
    task, image = hospital.task(), hospital.studies / "patient_00.nii.gz"
    with pytest.raises(NoCalibration, match="8 labelled patients .* 9 are needed"):
        task.calibrate(hospital.store, "cpu")
    hospital.submit(1, first=8)
    assert task.calibrate(hospital.store, "cpu").patients == 9
    said = predicted(hospital, image, opened(hospital))
    assert said is not None and said["patients"] == 9 and 0 <= said["at_least"] <= said["dice"] <= 1

    # One patient more: the others are not clicked on again.
    hospital.submit(1, first=9)
    measured = hospital.versions.folder / "calibration/records/cases.jsonl"
    before = measured.read_text(encoding="utf-8").splitlines()
    assert task.calibrate(hospital.store, "cpu").patients == 10
    after = measured.read_text(encoding="utf-8").splitlines()
    assert len(before) == 18 and len(after) == 20 and set(before) < set(after)
    with monkeypatch.context() as patched:
        patched.setattr(MeasureVersion, "__call__", lambda *_: pytest.fail("nothing is new"))
        assert task.calibrate(hospital.store, "cpu").patients == 10

    # A version that learned from two of them knows nothing of its own worth, until there are as many others.
    data = task.training_data(hospital.store)
    learned = tuple(f"{one.image_sha256}:{one.label_sha256}" for one in [*data.train, *data.validation][:2])
    weights = write_trained(hospital.app / hospital.preset.model.file("base"), hospital.folder / "trained.st", seed=1)
    first = hospital.versions.add(weights, Facts("Dr. Roe", data=learned[:1])).id
    again = write_trained(hospital.app / hospital.preset.model.file("base"), hospital.folder / "again.st", seed=2)
    second = hospital.versions.add(again, Facts("Dr. Roe", parent=first, data=learned[1:])).id
    hospital.versions.publish(second, "Dr. Roe")
    assert predicted(hospital, image, opened(hospital)) is None
    with pytest.raises(NoCalibration, match="8 labelled patients"):
        task.calibrate(hospital.store, "cpu")
    hospital.submit(1, first=10)
    assert task.calibrate(hospital.store, "cpu").patients == 9
    assert predicted(hospital, image, opened(hospital))["patients"] == 9

    # What was served before has its own.
    hospital.versions.publish(SHIPPED, "Dr. Roe")
    assert predicted(hospital, image, opened(hospital))["patients"] == 10
