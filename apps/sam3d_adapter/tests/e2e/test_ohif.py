"""A radiologist's way: OHIF shows a study from the PACS, clicks on a lesion, Run; the mask lies on the lesion.

The study is the hard one: oblique slices, voxels of three different sizes, InstanceNumber against the order in space.
OHIF is driven once; the tests look at what was recorded.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.e2e.checks import check_clicks, check_equal, check_grid, check_place, read_mask
from tests.e2e.conftest import require
from tests.e2e.scenes import LARGE, SMALL, voxel_centre
from tests.support.dicom_study import Ellipsoid, Study, Vector, Voxel
from tests.support.ohif import Inference, missing_browser, open_ohif
from tests.support.server import AppServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MODEL, LABEL = "ct", "lesion"


@dataclass(frozen=True)
class Step:
    """One click with Run.

    Attributes:
        viewport: where the mouse clicks; three of them, since none tests the axis it looks along.
        solid: what is clicked.
        off_mm: how far off its centre, LPS.
        is_fresh: whether earlier points are cleared before.
    """

    viewport: str
    solid: Ellipsoid
    off_mm: Vector = (0.0, 0.0, 0.0)
    is_fresh: bool = False


STEPS = (
    Step("mpr-axial", LARGE),
    Step("mpr-sagittal", LARGE, off_mm=(2.0, 4.0, -5.0)),
    Step("mpr-coronal", SMALL, is_fresh=True),
)


@dataclass(frozen=True)
class Record:
    """What came of one step.

    Attributes:
        clicks: voxels aimed at since the points were last cleared.
        inference: what OHIF sent, received and shows.
        again: the server's answer to the very same request, sent without a browser.
        solid: (i, j, k) bool, the truth.
    """

    clicks: list[Voxel]
    inference: Inference
    again: bytes
    solid: np.ndarray


@pytest.fixture(scope="module")
def study(studies: dict[str, Study]) -> Study:
    return studies["oblique"]


@pytest.fixture(scope="module")
def session(study: Study, server: AppServer, pictures: Path) -> tuple[list[Record], list[str]]:
    """The records of all steps, and OHIF's errors."""
    require(missing_browser())
    records: list[Record] = []
    clicks: list[Voxel] = []
    with open_ohif(server.url) as ohif:
        try:
            ohif.open_study(study.study_uid)
            ohif.connect()
            ohif.choose_model(MODEL)
            ohif.choose_label(LABEL)
            for step in STEPS:
                if step.is_fresh:
                    ohif.clear_points()
                    clicks = []
                aim = voxel_centre(study.geometry, step.solid.centre, step.off_mm)
                ohif.click(aim, step.viewport)
                clicks = [*clicks, study.geometry.voxel(aim)]
                inference = ohif.run(MODEL)
                ohif.screenshot(pictures / f"{step.viewport}.png")
                again = ask(server, inference)
                records.append(Record(clicks, inference, again, step.solid.inside(study.geometry)))
        except Exception:
            ohif.screenshot(pictures / "failed.png")
            print(f"picture: {pictures / 'failed.png'}, uncaught in OHIF: {ohif.errors}, server:\n{server.log_path}")
            raise
        return records, list(ohif.errors)


@pytest.fixture(params=range(len(STEPS)), ids=[step.viewport for step in STEPS])
def record(request: pytest.FixtureRequest, session: tuple[list[Record], list[str]]) -> Record:
    return session[0][request.param]


def ask(server: AppServer, inference: Inference) -> bytes:
    """Send OHIF's request once more."""
    params = {"params": (None, json.dumps(inference.params))}
    response = requests.post(server.url + inference.path, files=params, timeout=120)
    response.raise_for_status()
    return response.content


def test_the_click_arrives_as_the_voxel_under_the_mouse(record: Record) -> None:
    check_clicks(record.inference.params["foreground"], record.clicks)
    assert record.inference.params["background"] == []


def test_ohif_shows_what_the_server_answers(record: Record) -> None:
    shown = record.inference.label_map
    answered = read_mask(record.inference.answer).values
    check_equal(shown.values == shown.segments[LABEL], answered == 1)
    check_equal(answered, read_mask(record.again).values)


def test_the_answer_lies_on_the_grid_of_the_image(record: Record, study: Study) -> None:
    check_grid(read_mask(record.inference.answer), study.geometry)


def test_the_mask_is_the_lesion_that_was_clicked(record: Record, study: Study) -> None:
    check_place(record.inference.label_map.values, record.solid, study.geometry, record.clicks)


def test_ohif_has_no_uncaught_error(session: tuple[list[Record], list[str]]) -> None:
    assert session[1] == []


def test_a_mask_flipped_along_k_would_be_noticed(record: Record, study: Study) -> None:
    shown = record.inference.label_map.values
    flipped = shown[:, :, ::-1]
    with pytest.raises(AssertionError, match="voxels differ"):
        check_equal(flipped, read_mask(record.inference.answer).values)
    with pytest.raises(AssertionError, match="not in the mask|mm off"):
        check_place(flipped, record.solid, study.geometry, record.clicks)


def test_clicks_read_as_k_j_i_would_be_noticed(record: Record, study: Study) -> None:
    sent = [click[::-1] for click in record.inference.params["foreground"]]
    with pytest.raises(AssertionError, match="aimed at"):
        check_clicks(sent, record.clicks)
    # The lesion as it would lie there: moved from the voxel clicked to the one misread.
    moved = np.roll(record.inference.label_map.values, np.subtract(sent[0], record.clicks[0]), axis=(0, 1, 2))
    with pytest.raises(AssertionError):
        check_place(moved, record.solid, study.geometry, record.clicks)
