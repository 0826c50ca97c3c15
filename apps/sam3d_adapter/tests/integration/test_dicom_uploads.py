"""DICOM series as Slicer sends a volume of its own (a session), and single files, to the real application."""

import numpy as np
import pytest
import requests

from tests.support.dicom_study import Study
from tests.support.live_app import LiveApp, check_refusal
from tests.support.odd_series import CLICK, ODD, as_file, film, make_series, multi_frame

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def study() -> Study:
    return make_series()


def open_session(live: LiveApp, series: list) -> str:
    files = [("files", (f"{rank}.dcm", as_file(instance))) for rank, instance in enumerate(series)]
    answer = requests.put(f"{live.url}/session/", files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["session_id"])


def test_regular_series(live: LiveApp, good_mask: str, study: Study) -> None:
    session = open_session(live, list(study.instances))
    answer = live.infer({"foreground": [CLICK]}, image="", session_id=session)
    assert answer.status_code == 200, answer.text
    lps = study.geometry.lps(answer.json()["roi"]["centre_ijk"])
    np.testing.assert_allclose(answer.json()["roi"]["centre_ras_mm"], lps * [-1, -1, 1], atol=0.01)
    assert live.good_click() == good_mask


def test_a_series_of_another_modality_is_said(live: LiveApp, study: Study) -> None:
    session = open_session(live, list(study.instances))
    right, wrong = (
        live.infer({"foreground": [CLICK]}, model=model, image="", session_id=session).json()["warnings"]
        for model in ("test", "percentiles")
    )
    assert not any(warning.startswith("other-modality: ") for warning in right)
    assert any(warning.startswith("other-modality: The image is a CT") for warning in wrong)


@pytest.mark.parametrize("name", ODD)
def test_odd_series(live: LiveApp, good_mask: str, study: Study, name: str) -> None:
    make, words = ODD[name]
    session = open_session(live, make(study))
    check_refusal(live, live.infer({"foreground": [CLICK]}, image="", session_id=session), 422, words)
    assert live.good_click() == good_mask


def test_files_of_a_session_that_are_called_alike(live: LiveApp, study: Study) -> None:
    """Scanners write 1.dcm into the folder of each phase; the host would keep the last one only."""
    files = [("files", ("IM", as_file(instance))) for instance in study.instances]
    session = requests.put(f"{live.url}/session/", files=files, timeout=60).json()["session_id"]
    answer = live.infer({"foreground": [CLICK]}, image="", session_id=session)
    assert answer.status_code == 200, answer.text


def test_frames_in_one_file(live: LiveApp, good_mask: str, study: Study) -> None:
    assert live.upload("a.dcm", as_file(multi_frame(study)), CLICK).status_code == 200
    check_refusal(live, live.upload("a.dcm", as_file(multi_frame(study, missing=4)), CLICK), 422, ("missing",))
    check_refusal(live, live.upload("a.dcm", as_file(film(study)), CLICK), 422, ("film",))
    check_refusal(live, live.upload("a", as_file(study.instances[0]), CLICK), 422, ("single slice",))
    check_refusal(live, live.upload("a.dcm", as_file(study.instances[0])[:700], CLICK), 422)
    assert live.left_behind() == []
    assert live.good_click() == good_mask
