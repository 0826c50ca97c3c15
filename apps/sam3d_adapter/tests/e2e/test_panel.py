"""The panel in OHIF, with mouse and keys: click, correct, undo; what is shown is what the server answers."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from tests.e2e.checks import check_equal, check_grid, check_place, read_mask
from tests.e2e.conftest import NewPanel
from tests.e2e.scenes import GEOMETRIES, LARGE, SMALL, voxel_centre
from tests.support.dicom_study import Study, Vector, Voxel, read_study
from tests.support.orthanc import Orthanc
from tests.support.panel import Panel
from tests.support.server import AppServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SHARED = os.environ.get("SAM3D_SHARED")
TASK, LABEL = "ct", "lesion"
VIEWPORTS = ("mpr-axial", "mpr-sagittal", "mpr-coronal")
_SEGMENTS = "series => window.services.segmentationService.getSegmentation(`sam3d:${series}`).segments"
_WRITE_SEGMENTS = """([series, segments]) => window.services.segmentationService.addOrUpdateSegmentation(
  {segmentationId: `sam3d:${series}`, segments})"""


@pytest.fixture
def study(studies: dict[str, Study]) -> Study:
    return studies["oblique"]


def ask(server: AppServer, study: Study, prompts: list[tuple[str, Voxel]], task: str = TASK) -> Any:
    """The server's own answer to prompts, without a browser."""
    params = {
        "foreground": [ijk for sign, ijk in prompts if sign == "+"],
        "background": [ijk for sign, ijk in prompts if sign == "-"],
    }
    answer = requests.post(
        f"{server.url}/infer/{task}",
        params={"image": study.series_uid, "output": "image"},
        files={"params": (None, json.dumps(params))},
        timeout=120,
    )
    answer.raise_for_status()
    return read_mask(answer.content)


def check_shown(panel: Panel, server: AppServer, study: Study) -> np.ndarray:
    """What OHIF holds, and what the panel says of it, is the server's answer to the prompts that are listed."""
    panel.wait()
    shown = panel.label_map(study)
    answered = ask(server, study, panel.prompts())
    check_grid(answered, study.geometry)
    check_equal((shown.values == 1).astype(np.uint8), answered.values)
    assert panel.objects() == {LABEL: int(np.count_nonzero(answered.values))}
    assert shown.names[1] == LABEL
    return shown.values


@pytest.mark.parametrize(
    ("viewer", "geometry"), [*(("bundled", name) for name in sorted(GEOMETRIES)), ("current", "oblique")]
)
def test_a_click_in_each_viewport_shows_the_servers_mask_of_that_voxel(
    new_panel: NewPanel, studies: dict[str, Study], server: AppServer, geometry: str, pictures: Path
) -> None:
    study = studies[geometry]
    panel = new_panel()
    panel.open(study)
    assert panel.part("task").input_value() == TASK
    clicks: list[Voxel] = []
    for viewport, off_mm in zip(VIEWPORTS, ((0.0, 0.0, 0.0), (2.0, 4.0, -5.0), (-3.0, 3.0, 4.0)), strict=True):
        aim = voxel_centre(study.geometry, LARGE.centre, off_mm)
        panel.click(aim, viewport)
        clicks.append(study.geometry.voxel(aim))
        shown = check_shown(panel, server, study)
        assert panel.prompts() == [("+", click) for click in clicks]
        check_place(shown, LARGE.inside(study.geometry), study.geometry, clicks)
        panel.screenshot(pictures / f"{geometry}-{viewport}.png")
    # Two mistakes that must not pass: the mask turned over along k, and clicks read as k, j, i.
    with pytest.raises(AssertionError, match="voxels differ"):
        check_equal(shown[:, :, ::-1], ask(server, study, panel.prompts()).values)
    turned = [("+", click[::-1]) for click in clicks[:1]]
    assert turned[0][1] != clicks[0]
    with pytest.raises((AssertionError, requests.HTTPError)):
        check_equal(shown, ask(server, study, turned).values)


@pytest.mark.parametrize("viewer", ["current"])
def test_a_stack_of_slices_and_the_viewers_own_panel_beside(
    new_panel: NewPanel, study: Study, server: AppServer
) -> None:
    panel = new_panel()
    panel.open_in_segmentation_mode(study)
    assert panel.page.locator("[data-cy='sam3d-btn'] svg").count() == 1, "the icon of the tab"
    (viewport,) = panel.page.evaluate("() => window.services.cornerstoneViewportService.getViewportIds()")
    clicks = []
    for sign, off_mm in (("+", (0.0, 0.0, 0.0)), ("-", (9.0, 0.0, 0.0))):
        aim = voxel_centre(study.geometry, LARGE.centre, off_mm)
        x, y = panel.scroll_to(aim, viewport)
        panel.page.keyboard.press("f" if sign == "+" else "b")
        panel.page.mouse.click(x, y)
        clicks.append((sign, study.geometry.voxel(aim)))
        shown = check_shown(panel, server, study)
        assert panel.prompts() == clicks
    # By keyboard alone: these keys are the viewer's as well.
    for name, key in (("undo", "Enter"), ("undo", "Space"), ("redo", "Enter"), ("redo", "Space")):
        panel.part(name).focus()
        panel.page.keyboard.press(key)
    assert panel.prompts() == clicks
    # The viewer works out statistics, and may come back with the segments of when it began.
    begun = panel.page.evaluate_handle(_SEGMENTS, study.series_uid)
    panel.press("add-object")
    assert panel.label_map(study).names == {1: LABEL, 2: f"{LABEL} 2"}
    panel.page.evaluate(_WRITE_SEGMENTS, [study.series_uid, begun])
    assert panel.label_map(study).names == {1: LABEL, 2: f"{LABEL} 2"}
    # Its own panel lists the objects, and the masks stay.
    panel.page.locator("[data-cy='panelSegmentationWithToolsLabelMap-btn']").click()
    panel.page.get_by_text(f"{LABEL} 2", exact=True).wait_for()
    check_equal(panel.label_map(study).values, shown)
    panel.page.locator("[data-cy='sam3d-btn']").click()
    panel.part("object").first.wait_for()
    assert set(panel.objects()) == {LABEL, f"{LABEL} 2"}


@pytest.mark.skipif(not SHARED, reason="SAM3D_SHARED names no folder with data/dicom")
def test_clicks_on_a_real_ct_and_how_long_they_take(
    new_panel: NewPanel, orthanc: Orthanc, server: AppServer, record_property: Callable[[str, object], None]
) -> None:
    study = read_study(Path(str(SHARED)) / "data/dicom/crlm1004_ct")
    orthanc.store(study.instances)
    panel = new_panel()
    panel.open(study)
    panel.watch_latency()
    liver = study.geometry.lps((200, 255, 20))
    for n, viewport in enumerate((*VIEWPORTS, *VIEWPORTS[:1] * 5)):
        panel.click(voxel_centre(study.geometry, liver, (4.0 * (n % 4), 3.0 * (n % 3), 5.0 * (n % 2))), viewport)
        shown = check_shown(panel, server, study)
    assert (shown > 0).sum() > 10_000
    latencies = panel.latencies()
    assert len(latencies) == 8
    first, further = latencies[0], np.percentile(latencies[1:], (50, 95))
    print(f"mouse-up to mask on screen, ms: first {first:.0f}, further p50 {further[0]:.0f}, p95 {further[1]:.0f}")
    record_property("latency_ms", [round(value) for value in latencies])


def test_undo_and_redo_go_over_all_prompts_the_only_one_included(panel: Panel, study: Study, server: AppServer) -> None:
    masks = [np.zeros(study.geometry.shape, np.uint8)]
    places: list[tuple[str, Vector]] = [("+", (0.0, 0.0, 0.0)), ("-", (9.0, 0.0, 0.0)), ("+", (0.0, 32.0, 0.0))]
    for sign, off_mm in places:
        aim = voxel_centre(study.geometry, LARGE.centre, off_mm)
        panel.click(aim, modifier="Control" if sign == "-" else None)
        masks.append(check_shown(panel, server, study))
    assert [sign for sign, _ in panel.prompts()] == ["+", "-", "+"]
    assert len({mask.tobytes() for mask in masks}) == 4
    for left in (2, 1, 0):
        panel.page.keyboard.press("Control+z")
        assert len(panel.prompts()) == left
        assert (panel.label_map(study).values == masks[left]).all()
    assert panel.part("undo").is_disabled()
    for there in (1, 2):
        panel.press("redo")
        assert len(panel.prompts()) == there
        assert (panel.label_map(study).values == masks[there]).all()
    panel.page.keyboard.press("Control+Shift+Z")
    assert (panel.label_map(study).values == masks[3]).all()
    assert panel.part("redo").is_disabled()


def test_one_prompt_is_removed_by_mouse_or_by_delete_and_reset_removes_all(
    panel: Panel, study: Study, server: AppServer
) -> None:
    for off_mm in ((0.0, 0.0, 0.0), (0.0, 9.0, 0.0), (9.0, 0.0, 0.0)):
        panel.click(voxel_centre(study.geometry, LARGE.centre, off_mm))
        panel.wait()
    first, second, third = panel.prompts()
    panel.page.get_by_label("Remove prompt 2").click()
    assert panel.prompts() == [first, third]
    check_shown(panel, server, study)
    panel.part("prompt").first.locator("button").first.click()
    panel.page.keyboard.press("Delete")
    assert panel.prompts() == [third]
    check_shown(panel, server, study)
    panel.press("reset")
    assert panel.prompts() == [] and not panel.label_map(study).values.any()
    for expected in ([third], [first, third], [first, second, third]):
        panel.press("undo")
        assert panel.prompts() == expected
        check_shown(panel, server, study)


def test_background_clicks_by_button_key_and_modifier(panel: Panel, study: Study) -> None:
    aim = voxel_centre(study.geometry, LARGE.centre)
    panel.press("mode-background")
    panel.click(aim)
    assert "foreground click as well" in panel.message() and not panel.label_map(study).values.any()
    panel.page.keyboard.press("f")
    panel.click(voxel_centre(study.geometry, SMALL.centre), "mpr-coronal")
    panel.page.keyboard.press("b")
    panel.click(voxel_centre(study.geometry, SMALL.centre, (0.0, 15.0, 0.0)), "mpr-sagittal")
    panel.press("mode-foreground")
    panel.click(voxel_centre(study.geometry, SMALL.centre, (0.0, -15.0, 0.0)), modifier="Control")
    assert [sign for sign, _ in panel.prompts()] == ["-", "+", "-", "-"]
    panel.wait()
    shown = panel.label_map(study).values
    for sign, ijk in panel.prompts():
        assert shown[ijk] == (sign == "+")


def test_the_newest_prompts_win_while_an_answer_is_under_way(panel: Panel, study: Study, server: AppServer) -> None:
    sent: list[list[list[int]]] = []
    held: list[Any] = []

    def hold(route: Any) -> None:
        body = route.request.post_data_buffer or b""
        sent.append(
            json.loads(body.partition(b'name="params"')[2].partition(b"\r\n\r\n")[2].partition(b"\r\n")[0])[
                "foreground"
            ]
        )
        if len(sent) == 1:
            held.append(route)
        else:
            route.continue_()

    panel.page.route("**/infer/**", hold)
    for off_mm in ((0.0, 0.0, 0.0), (0.0, 9.0, 0.0), (9.0, 0.0, 0.0)):
        panel.click(voxel_centre(study.geometry, LARGE.centre, off_mm))
        assert panel.part("busy").count() == 1
    assert len(panel.prompts()) == 3 and not panel.label_map(study).values.any()
    held[0].continue_()
    check_shown(panel, server, study)
    # The second click alone was never asked for.
    assert [len(clicks) for clicks in sent] == [1, 3]


def test_esc_calls_off_what_is_under_way_and_a_server_that_is_gone_is_asked_again(
    panel: Panel, study: Study, server: AppServer
) -> None:
    panel.page.route("**/infer/**", lambda route: None)
    panel.click(voxel_centre(study.geometry, LARGE.centre))
    panel.part("busy").wait_for()
    panel.page.keyboard.press("Escape")
    assert panel.part("busy").count() == 0 and panel.prompts() == []
    panel.page.unroute("**/infer/**")
    panel.page.route("**/infer/**", lambda route: route.abort())
    panel.press("redo")
    panel.wait_for_message("The server does not answer.")
    assert len(panel.prompts()) == 1
    panel.page.unroute("**/infer/**")
    panel.press("message-action")
    check_shown(panel, server, study)
    # Without the switch, only Run asks.
    panel.press("reset")
    panel.press("automatic")
    panel.click(voxel_centre(study.geometry, LARGE.centre))
    panel.click(voxel_centre(study.geometry, LARGE.centre, (0.0, 9.0, 0.0)))
    assert len(panel.prompts()) == 2 and not panel.label_map(study).values.any()
    panel.press("run")
    check_shown(panel, server, study)


def test_tasks_say_why_they_do_not_suit_and_warnings_are_shown_as_sentences(
    panel: Panel, study: Study, server: AppServer
) -> None:
    offered = panel.part("task").locator("option").evaluate_all("list => list.map(e => [e.value, e.textContent])")
    names = [name for name, _ in offered]
    # Those that can answer and suit the series come first.
    assert set(names[:2]) == {"ct", "ct_lesion"} and set(names[2:4]) == {"mr", "pet"}
    assert all("not available" in text for _, text in offered[4:])
    panel.part("task").select_option("mr")
    assert "is for MR, the series is CT" in panel.message()
    aim = voxel_centre(study.geometry, LARGE.centre)
    panel.click(aim)
    panel.wait()
    params = {"params": (None, json.dumps({"foreground": [study.geometry.voxel(aim)]}))}
    query = {"image": study.series_uid, "output": "json"}
    warnings = requests.post(f"{server.url}/infer/mr", params=query, files=params, timeout=120).json()["warnings"]
    assert warnings
    for warning in warnings:
        assert warning.partition(": ")[2] in panel.message()
    panel.part("task").select_option("colon")
    assert "missing: sam_vit_b.safetensors" in panel.message()
    panel.click(aim)
    assert panel.prompts() == [] and "missing" in panel.message()


def test_beside_the_image_the_viewers_own_tools_and_the_panel_of_monai_label(
    panel: Panel, study: Study, server: AppServer
) -> None:
    assert panel.page.locator("[data-cy='sam3d-btn'] svg").count() == 1, "the icon of the tab"
    panel.click(np.add(LARGE.centre, (300.0, 0.0, 0.0)).tolist())
    assert "outside of the image" in panel.message()
    x, y = panel.aim(LARGE.centre)
    panel.page.locator("[data-cy='Pan']").click()
    panel.page.mouse.click(x, y)
    assert panel.prompts() == []
    assert panel.part("mode-viewer").get_attribute("aria-pressed") == "true"
    # MONAI Label's own panel stays reachable, and the work is there when one comes back.
    panel.press("mode-foreground")
    panel.click(LARGE.centre)
    panel.wait()
    panel.page.locator("[data-cy='monailabel-btn']").click()
    panel.page.locator("#monailabelServerURL").wait_for()
    panel.page.locator("[data-cy='sam3d-btn']").click()
    panel.part("object").first.wait_for()
    check_shown(panel, server, study)
