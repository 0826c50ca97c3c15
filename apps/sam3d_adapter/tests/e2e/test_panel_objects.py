"""The panel in OHIF: several objects in one image, the brush, boxes."""

import json
from typing import Any

import numpy as np
import pytest

from tests.e2e.checks import check_equal
from tests.e2e.conftest import both_viewers
from tests.e2e.scenes import LARGE, SMALL, voxel_centre
from tests.support.dicom_study import Study
from tests.support.panel import Panel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def study(studies: dict[str, Study]) -> Study:
    return studies["sagittal"]


@pytest.fixture
def sent(panel: Panel) -> list[dict[str, Any]]:
    """What the panel asks the server, in order; ``label`` says whether a label map came along."""
    found: list[dict[str, Any]] = []

    def note(request: Any) -> None:
        if "/infer/" in request.url:
            body = request.post_data_buffer or b""
            text = body.partition(b'name="params"')[2].partition(b"\r\n\r\n")[2].partition(b"\r\n--")[0]
            found.append({**json.loads(text), "label": b'name="label"' in body})

    panel.page.on("request", note)
    return found


def click(panel: Panel, study: Study, place: Any, off_mm: Any = (0.0, 0.0, 0.0), **how: Any) -> None:
    panel.click(voxel_centre(study.geometry, place, off_mm), **how)
    panel.wait()


def drag(panel: Panel, start: Any, end: Any, viewport: str = "mpr-axial", modifier: str | None = None) -> None:
    """With the left button, from place to place."""
    panel.aim(start, viewport)
    (x, y), (to_x, to_y) = panel.position(start, viewport), panel.position(end, viewport)
    if modifier:
        panel.page.keyboard.down(modifier)
    panel.page.mouse.move(x, y)
    panel.page.mouse.down()
    panel.page.mouse.move((x + to_x) / 2, (y + to_y) / 2, steps=4)
    panel.page.mouse.move(to_x, to_y, steps=4)
    panel.page.mouse.up()
    if modifier:
        panel.page.keyboard.up(modifier)


def test_a_finished_object_keeps_its_voxels_and_can_be_named_hidden_locked_deleted(
    panel: Panel, study: Study, sent: list[dict[str, Any]]
) -> None:
    click(panel, study, LARGE.centre)
    first = panel.label_map(study).values == 1
    panel.press("add-object")
    # Just beside it: the answer would take some of it.
    edge = np.argwhere(first)[np.argwhere(first)[:, 0].argmax()] + [2, 0, 0]
    panel.click(study.geometry.lps(edge).tolist())
    panel.wait()
    shown = panel.label_map(study)
    check_equal((shown.values == 1).astype(np.uint8), first.astype(np.uint8))
    assert (shown.values == 2).any() and shown.names == {1: "lesion", 2: "lesion 2"}
    assert sent[1]["protected"] == "upload" and sent[1]["label"] and "protected" not in sent[0]
    assert panel.objects() == {"lesion": int(first.sum()), "lesion 2": int((shown.values == 2).sum())}
    # A click on it is none for another object.
    panel.click(voxel_centre(study.geometry, LARGE.centre))
    assert 'belongs to "lesion"' in panel.message() and len(panel.prompts()) == 1
    volume = float(panel.part("object").first.locator(".s3-size").inner_text().split(" ml")[0])
    assert volume == pytest.approx(first.sum() * np.prod(study.geometry.spacing) / 1000, rel=0.05)
    # Names, in the panel and in OHIF.
    panel.page.get_by_label("Name of the object").fill("rim")
    panel.page.keyboard.press("Enter")
    assert set(panel.objects()) == {"lesion", "rim"} and panel.label_map(study).names[2] == "rim"
    # Hidden in every viewport; the voxels stay.
    panel.page.get_by_label("Hide: rim").click()
    visible = """() => window.services.segmentationService.getSegmentationRepresentations('mpr-coronal')
        .map(one => one.segments[2].visible)"""
    assert panel.page.evaluate(visible) == [False]
    panel.page.get_by_label("Show: rim").click()
    assert panel.page.evaluate(visible) == [True]
    # Locked: neither clicks nor an answer change it.
    panel.page.get_by_label("Lock: rim").click()
    panel.click(voxel_centre(study.geometry, SMALL.centre))
    assert '"rim" is locked' in panel.message() and len(panel.prompts()) == 1
    panel.page.get_by_label("Unlock: rim").click()
    # With leave, a new object may take voxels of another.
    panel.press("add-object")
    panel.press("overwrite")
    click(panel, study, LARGE.centre)
    assert panel.objects()["lesion"] < first.sum()
    panel.press("undo")
    check_equal((panel.label_map(study).values == 1).astype(np.uint8), first.astype(np.uint8))
    panel.press("undo")
    panel.page.get_by_label("Delete: rim").click()
    assert set(panel.objects()) == {"lesion"} and not (panel.label_map(study).values == 2).any()
    panel.press("undo")
    assert set(panel.objects()) == {"lesion", "rim"}
    # Every viewport shows the middle of an object that is jumped to.
    panel.page.get_by_label("Jump to: lesion").click()
    for viewport in ("mpr-axial", "mpr-sagittal", "mpr-coronal"):
        assert panel.off_plane(LARGE.centre, viewport) < 6


@both_viewers
def test_what_was_drawn_by_hand_stays_and_clicks_go_on_from_it(
    panel: Panel, study: Study, sent: list[dict[str, Any]]
) -> None:
    click(panel, study, SMALL.centre)
    before = panel.label_map(study).values.copy()
    panel.press("mode-brush")
    drag(panel, np.add(SMALL.centre, (18.0, 0.0, 0.0)), np.add(SMALL.centre, (24.0, 0.0, 0.0)))
    panel.page.wait_for_function(
        f"() => Number(document.querySelector('[data-sam3d=object]').dataset.voxels) > {before.sum()}"
    )
    drawn = panel.label_map(study).values.copy()
    assert (drawn[before == 1] == 1).all() and panel.objects() == {"lesion": int(drawn.sum())}
    panel.press("undo")
    check_equal(panel.label_map(study).values, before)
    panel.press("redo")
    check_equal(panel.label_map(study).values, drawn)
    panel.press("mode-foreground")
    assert len(sent) == 1
    click(panel, study, SMALL.centre, (0.0, 0.0, -14.0))
    assert sent[-1]["start_from"] == "upload" and sent[-1]["label"] and len(sent[-1]["foreground"]) == 1
    after = panel.label_map(study).values
    stroke = (drawn == 1) & (before == 0)
    kept = np.count_nonzero(stroke & (after == 1)) / np.count_nonzero(stroke)
    assert kept > 0.9 and after.sum() != drawn.sum()
    panel.press("mode-eraser")
    drag(panel, SMALL.centre, np.add(SMALL.centre, (4.0, 0.0, 0.0)))
    panel.page.wait_for_function(
        f"() => Number(document.querySelector('[data-sam3d=object]').dataset.voxels) < {after.sum()}"
    )
    for _ in range(4):
        panel.press("undo")
    assert not panel.label_map(study).values.any()


def test_a_box_by_its_mode_and_by_shift(panel: Panel, study: Study, sent: list[dict[str, Any]]) -> None:
    start, end = np.add(LARGE.centre, (-14.0, -14.0, 0.0)), np.add(LARGE.centre, (14.0, 14.0, 0.0))
    panel.press("mode-box")
    drag(panel, start, end)
    panel.wait()
    low, high = sent[-1]["box"]
    corners = np.sort([study.geometry.voxel(start.tolist()), study.geometry.voxel(end.tolist())], axis=0)
    assert np.abs((np.array([low, high]) - corners)[:, [0, 2]]).max() <= 1
    # Across the slice it was drawn on, it is as deep as it is wide.
    assert low[1] < corners[0, 1] < high[1]
    assert [sign for sign, _ in panel.prompts()] == ["box"]
    assert panel.objects()["lesion"] > 0
    panel.press("mode-foreground")
    drag(panel, start, np.add(end, (4.0, 0.0, 0.0)), "mpr-coronal", modifier="Shift")
    panel.wait()
    assert [sign for sign, _ in panel.prompts()] == ["box"] and sent[-1]["box"] != [low, high]
    panel.page.keyboard.press("Delete")
    assert panel.prompts() == [] and panel.objects() == {"lesion": 0}


def test_a_box_over_several_slices_of_one_viewport(panel: Panel, study: Study, sent: list[dict[str, Any]]) -> None:
    def drawn(low_mm: Any, high_mm: Any) -> np.ndarray:
        """Draws a rectangle on the slice of its first corner; its corners as voxels."""
        start = voxel_centre(study.geometry, LARGE.centre, low_mm)
        end = [*np.add(LARGE.centre, high_mm)[:2], start[2]]
        drag(panel, start, end)
        panel.wait()
        return np.sort([study.geometry.voxel(start), study.geometry.voxel(end)], axis=0)

    panel.press("mode-box")
    first = drawn((-14.0, -14.0, -12.0), (2.0, 2.0, -12.0))
    alone = sent[-1]["box"]
    second = drawn((-4.0, -4.0, 9.0), (14.0, 14.0, 9.0))
    # The slices of the view run along the second voxel axis; both rectangles lie on one of them each.
    assert first[0, 1] == first[1, 1] != second[0, 1] == second[1, 1]
    assert [sign for sign, _ in panel.prompts()] == ["box"]
    box = np.array(sent[-1]["box"])
    both = np.array([np.minimum(first[0], second[0]), np.maximum(first[1], second[1])])
    assert np.abs(box - both)[:, [0, 2]].max() <= 1
    assert box[:, 1].tolist() == both[:, 1].tolist()
    assert panel.part("prompt").get_attribute("data-to") == ",".join(map(str, sent[-1]["box"][1]))
    i, j, k = (slice(low, high + 1) for low, high in box.T)
    values = panel.label_map(study).values
    assert values[i, j, k].any()
    # The second rectangle is a step of its own.
    panel.press("undo")
    panel.press("reset")
    panel.press("undo")
    assert panel.part("prompt").get_attribute("data-to") == ",".join(map(str, alone[1]))
