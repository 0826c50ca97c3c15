"""The panel in OHIF: views that are flipped and turned, and another series of the study."""

import numpy as np
import pytest

from tests.e2e.checks import check_equal
from tests.e2e.conftest import NewPanel
from tests.e2e.scenes import LARGE, ORGAN, SMALL, voxel_centre
from tests.support.dicom_study import Study, centred_geometry, make_study, paint_scene
from tests.support.ohif import VIEWPORT
from tests.support.orthanc import Orthanc
from tests.support.panel import Panel
from tests.support.server import AppServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_VIEW = "mpr-axial"
# Where the voxel axes i and j run on the screen, in pixels for 10 mm.
_AXES = f"""([id, places]) => {{
  const viewport = {VIEWPORT};
  const [from, alongI, alongJ] = places.map(place => viewport.worldToCanvas(place));
  return [alongI, alongJ].map(([x, y]) => [x - from[0], y - from[1]]);
}}"""
_IS_TURNED = f"""([id, places, was]) => JSON.stringify(was) !== JSON.stringify(({_AXES})([id, places]))"""


def axes(panel: Panel, study: Study) -> tuple[np.ndarray, list[list[float]]]:
    """(2, 2) directions of i and j on the screen, x to the right and y down; and the places that they are of."""
    step = study.geometry.index_to_lps[:3, :2]
    places = [list(LARGE.centre), *(np.add(LARGE.centre, 10 * step[:, n]).tolist() for n in (0, 1))]
    found = np.array(panel.page.evaluate(_AXES, [_VIEW, places]))
    return found / np.linalg.norm(found, axis=1, keepdims=True), places


def press(panel: Panel, study: Study, key: str) -> np.ndarray:
    """Press a key of OHIF over a view; how the view lies then."""
    was, places = axes(panel, study)
    raw = panel.page.evaluate(_AXES, [_VIEW, places])
    panel.page.keyboard.press(key)
    panel.page.wait_for_function(_IS_TURNED, arg=[_VIEW, places, raw], timeout=20_000)
    return axes(panel, study)[0]


def test_a_click_in_a_flipped_or_turned_view_is_the_voxel_under_the_mouse(
    new_panel: NewPanel, studies: dict[str, Study]
) -> None:
    study = studies["feet_up"]
    panel = new_panel()
    panel.open(study)
    panel.click(voxel_centre(study.geometry, LARGE.centre))
    panel.wait()
    clicks = [study.geometry.voxel(LARGE.centre)]
    before, _ = axes(panel, study)
    flipped = press(panel, study, "h")
    assert np.allclose(flipped, before * (-1, 1), atol=0.01)
    turned = press(panel, study, "r")
    # A quarter clockwise: what ran to the right runs down.
    assert np.allclose(turned, np.stack([-flipped[:, 1], flipped[:, 0]], axis=1), atol=0.01)
    for n, off_mm in enumerate(((9.0, 4.0, 0.0), (-5.0, 9.0, 3.0))):
        aim = voxel_centre(study.geometry, LARGE.centre, off_mm)
        x, y = panel.aim(aim, _VIEW)
        # Where it must be, from a corner of the view and its axes alone.
        panel.page.mouse.click(x, y)
        panel.wait()
        clicks.append(study.geometry.voxel(aim))
        assert panel.prompts() == [("+", click) for click in clicks], n
    shown = panel.label_map(study).values
    assert all(shown[click] == 1 for click in clicks)


@pytest.fixture
def pair(orthanc: Orthanc, server: AppServer) -> tuple[Study, Study]:
    """Two series of one study, of different geometry."""
    made = []
    for n, spacing in enumerate(((2.4, 3.0, 5.0), (2.8, 2.6, 6.0))):
        geometry = centred_geometry((72, 64, 36), spacing, centre=(13.0, -40.0, 200.0))
        image = paint_scene([ORGAN, LARGE, SMALL], geometry, noise_hu=15.0, seed=n)
        study = make_study(image, geometry, patient_name="PAIR")
        for instance in study.instances:
            instance.StudyInstanceUID = (made[0] if made else study).study_uid
            instance.SeriesDescription = f"Phase {n + 1}"
            instance.SeriesNumber = n + 1
        orthanc.store(study.instances)
        made.append(study)
    return made[0], made[1]


def show(panel: Panel, study: Study) -> None:
    """Double click on a series in OHIF's list of the study."""
    description = study.instances[0].SeriesDescription
    panel.page.locator("[data-cy^='study-browser-thumbnail']").filter(has_text=description).dblclick()
    panel.page.wait_for_function(
        "uid => window.services.segmentationService.getSegmentation(`sam3d:${uid}`)", arg=study.series_uid
    )


def test_another_series_of_the_study_keeps_the_work_on_the_first_and_says_so(
    new_panel: NewPanel, pair: tuple[Study, Study]
) -> None:
    first, second = pair
    panel = new_panel()
    panel.open(first)
    show(panel, first)
    panel.click(voxel_centre(first.geometry, LARGE.centre))
    panel.wait()
    prompts, shown = panel.prompts(), panel.label_map(first).values.copy()
    assert shown.any()
    show(panel, second)
    said = panel.wait_for_message("is kept")
    assert "Phase 1" in said and "show that series again" in said
    assert panel.prompts() == []
    assert panel.part("save-state").get_attribute("data-state") == "empty"
    show(panel, first)
    panel.page.wait_for_function("n => document.querySelectorAll('[data-sam3d=prompt]').length === n", arg=len(prompts))
    assert panel.prompts() == prompts
    check_equal(panel.label_map(first).values, shown)
    assert panel.part("save-state").get_attribute("data-state") == "not-saved"
