"""The panel in OHIF in trouble: a PACS that goes away, a browser that is killed, two at one study."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from lib.host.process.launch import free_port
from tests.e2e.checks import check_equal
from tests.e2e.conftest import NewPanel, require
from tests.e2e.scenes import LARGE, ORGAN, SMALL, voxel_centre
from tests.e2e.test_panel_saving import frames, segmentations
from tests.support.dicom_study import Study, centred_geometry, make_study, paint_scene
from tests.support.ohif import run_browser
from tests.support.orthanc import Orthanc, missing_orthanc, start_orthanc
from tests.support.panel import Panel
from tests.support.server import AppServer, copy_app, start_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def small_study(name: str, seed: int = 5) -> Study:
    geometry = centred_geometry((72, 64, 36), (2.4, 3.0, 5.0), centre=(13.0, -40.0, 200.0), tilt_deg=(15.0, -8.0, 20.0))
    image = paint_scene([ORGAN, LARGE, SMALL], geometry, noise_hu=15.0, seed=seed)
    return make_study(image, geometry, patient_name=name)


def click(panel: Panel, study: Study, place: tuple[float, float, float] = LARGE.centre) -> np.ndarray:
    panel.click(voxel_centre(study.geometry, place))
    panel.wait()
    return panel.label_map(study).values.copy()


def test_a_pacs_that_goes_away_in_mid_work_and_comes_back_costs_nothing(new_panel: NewPanel, tmp_path: Path) -> None:
    require(missing_orthanc())
    study, port = small_study("AWAY"), free_port()

    def pacs() -> AbstractContextManager[Orthanc]:
        return start_orthanc(tmp_path / "orthanc", port=port)

    with ExitStack() as stack:
        with pacs() as running:
            running.store(study.instances)
            # It starts while its PACS is there, and outlives it.
            folder = tmp_path / "server"
            server = stack.enter_context(start_server(copy_app(tmp_path / "app"), running.dicomweb_url, folder))
            panel = new_panel(server.url)
            panel.open(study)
            panel.part("author").fill("Dr. Roe")
            before = click(panel, study)
        # The server has the series: a click is answered all the same.
        panel.click(voxel_centre(study.geometry, LARGE.centre, (0.0, 9.0, 0.0)), modifier="Control")
        panel.wait()
        after = panel.label_map(study).values.copy()
        assert len(panel.prompts()) == 2 and (after != before).any(), panel.message()
        panel.press("submit-final")
        panel.press("confirm")
        panel.part("message-action").wait_for()
        assert panel.part("message").get_attribute("data-kind") == "error"
        assert "DICOM" in panel.message() or "PACS" in panel.message()
        assert panel.part("save-state").get_attribute("data-state") == "not-saved"
        check_equal(panel.label_map(study).values, after)
        with pacs() as running:
            panel.press("message-action")
            panel.press("confirm")
            panel.wait_for_message("Stored as final")
            (seg,) = segmentations(running, study)
            check_equal(frames(seg, study)["lesion"], (after == 1).astype(np.uint8))
            assert panel.part("save-state").get_attribute("data-state") == "saved"


@pytest.fixture
def shared_study(orthanc: Orthanc, server: AppServer) -> Study:
    study = small_study("SHARED")
    orthanc.store(study.instances)
    return study


def test_two_who_submit_on_one_study_are_told_and_both_labels_stay_in_the_pacs(
    new_panel: NewPanel, shared_study: Study, orthanc: Orthanc, server: AppServer
) -> None:
    study = shared_study
    roe, poe = new_panel(), new_panel(is_other_user=True)
    for panel, name, place in ((roe, "Dr. Roe", LARGE.centre), (poe, "Dr. Poe", SMALL.centre)):
        panel.open(study)
        panel.part("author").fill(name)
        click(panel, study, place)
        # Both have been asked before either label is there.
        panel.press("submit-final")
        panel.part("confirm").wait_for()
        assert "replaces" not in panel.page.get_by_role("alertdialog").inner_text()
    roe.press("confirm")
    roe.wait_for_message("Stored as final")
    poe.press("confirm")
    poe.page.get_by_role("alertdialog").get_by_text("by Dr. Roe").wait_for()
    assert "The PACS keeps both." in poe.page.get_by_role("alertdialog").inner_text()
    assert len(segmentations(orthanc, study)) == 1
    poe.press("confirm")
    poe.wait_for_message("Stored as final")
    stored = [frames(seg, study)["lesion"] for seg in segmentations(orthanc, study)]
    drawn = [(panel.label_map(study).values == 1).astype(np.uint8) for panel in (roe, poe)]
    assert len(stored) == 2 and (drawn[0] != drawn[1]).any()
    assert sorted(one.tobytes() for one in stored) == sorted(one.tobytes() for one in drawn)
    query = {"label": study.series_uid, "tag": "final"}
    assert requests.get(f"{server.url}/datastore/label/info", params=query, timeout=60).json()["author"] == "Dr. Poe"


def test_two_who_submit_at_once_on_two_studies_do_not_meet(
    new_panel: NewPanel, shared_study: Study, orthanc: Orthanc
) -> None:
    other = small_study("OTHER", seed=6)
    orthanc.store(other.instances)
    panels = [(new_panel(), shared_study), (new_panel(is_other_user=True), other)]
    for panel, study in panels:
        panel.open(study)
        click(panel, study)
        panel.press("submit-final")
        panel.part("confirm").wait_for()
    for panel, _ in panels:
        panel.part("confirm").dispatch_event("click")
    for panel, study in panels:
        panel.wait_for_message("Stored as final")
        (seg,) = segmentations(orthanc, study)
        check_equal(frames(seg, study)["lesion"], (panel.label_map(study).values == 1).astype(np.uint8))


def test_a_browser_that_is_killed_brings_back_prompts_and_masks(
    browser: Any, shared_study: Study, server: AppServer, tmp_path: Path
) -> None:
    study = shared_study
    with run_browser(tmp_path / "profile") as (_, url):
        panel = Panel(browser.browser_type.connect_over_cdp(url).contexts[0].new_page(), server.url)
        panel.open(study)
        shown = click(panel, study)
        panel.click(voxel_centre(study.geometry, LARGE.centre, (0.0, 9.0, 0.0)), modifier="Control")
        panel.wait()
        shown, prompts = panel.label_map(study).values.copy(), panel.prompts()
    # No page was told, and no file closed.
    with run_browser(tmp_path / "profile") as (_, url):
        panel = Panel(browser.browser_type.connect_over_cdp(url).contexts[0].new_page(), server.url)
        panel.open(study)
        # The last message may be that the page that was killed has the series open.
        panel.page.locator("[data-sam3d$=message]").get_by_text("was brought back").wait_for(state="attached")
        panel.wait()
        assert panel.prompts() == prompts and len(prompts) == 2
        check_equal(panel.label_map(study).values, shown)
        panel.press("undo")
        assert panel.prompts() == []
