"""The panel in OHIF: drafts, final labels, and work that is brought back."""

import io

import numpy as np
import pydicom
import pytest
import requests
from pydicom.uid import generate_uid

from tests.e2e.checks import check_equal
from tests.e2e.conftest import NewPanel, both_viewers
from tests.e2e.scenes import LARGE, SMALL, voxel_centre
from tests.support.dicom_study import Study
from tests.support.orthanc import Orthanc
from tests.support.panel import Panel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def study(fresh_study: Study) -> Study:
    return fresh_study


def click(panel: Panel, study: Study) -> np.ndarray:
    panel.click(voxel_centre(study.geometry, LARGE.centre))
    panel.wait()
    return panel.label_map(study).values.copy()


def segmentations(orthanc: Orthanc, study: Study) -> list[pydicom.Dataset]:
    """DICOM SEG of the series in the PACS."""
    found = []
    for series in orthanc.series("SEG"):
        instance = series["Instances"][0]
        file = requests.get(f"{orthanc.url}/instances/{instance}/file", timeout=60).content
        seg = pydicom.dcmread(io.BytesIO(file))
        if seg.ReferencedSeriesSequence[0].SeriesInstanceUID == study.series_uid:
            found.append(seg)
    return found


def frames(seg: pydicom.Dataset, study: Study) -> dict[str, np.ndarray]:
    """(i, j, k) by segment name, each frame where its ImagePositionPatient puts it."""
    names = {int(one.SegmentNumber): str(one.SegmentLabel) for one in seg.SegmentSequence}
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    masks = {name: np.zeros(study.geometry.shape, np.uint8) for name in names.values()}
    for frame, groups in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        place = [float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient]
        i, j, k = study.geometry.voxel(place)
        assert (i, j) == (0, 0)
        masks[names[int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]][:, :, k] = frame.T
    return masks


@both_viewers
def test_a_final_label_is_a_dicom_seg_of_these_voxels_under_these_names(
    new_panel: NewPanel, study: Study, orthanc: Orthanc
) -> None:
    panel = new_panel()
    panel.open(study)
    assert panel.part("submit-final").is_disabled()
    shown = click(panel, study)
    panel.press("add-object")
    panel.click(voxel_centre(study.geometry, SMALL.centre))
    panel.wait()
    shown = panel.label_map(study).values.copy()
    assert panel.label_map(study).names == {1: "lesion", 2: "lesion 2"}
    panel.part("author").fill("Dr. Roe")
    panel.press("submit-final")
    assert segmentations(orthanc, study) == []
    panel.press("confirm")
    said = panel.wait_for_message("Stored as final")
    (seg,) = segmentations(orthanc, study)
    assert str(seg.SeriesInstanceUID) in said and "will learn from" in said and '"lesion 2"' in said
    stored = frames(seg, study)
    assert set(stored) == {"lesion", "lesion 2"}
    check_equal(stored["lesion"], (shown == 1).astype(np.uint8))
    check_equal(stored["lesion 2"], (shown == 2).astype(np.uint8))
    info = requests.get(
        f"{panel.server_url}/datastore/label/info", params={"label": study.series_uid, "tag": "final"}, timeout=60
    ).json()
    assert info["author"] == "Dr. Roe" and info["model"] == "ct"
    # In a browser that was never here, the stored label is offered, and one can go on with it.
    other = new_panel(is_other_user=True)
    other.open(study)
    other.press("open-final")
    other.wait_for_message("Opened the final label")
    check_equal(other.label_map(study).values, shown)
    assert other.objects() == panel.objects()
    other.page.keyboard.press("Delete")
    assert len(other.objects()) == 2 and other.prompts() == [] and not (other.label_map(study).values == 2).any()
    check_equal((other.label_map(study).values == 1).astype(np.uint8), (shown == 1).astype(np.uint8))
    # A DICOM SEG that another program stored opens as well, under its own names.
    seg.SOPInstanceUID, seg.SeriesInstanceUID = generate_uid(), generate_uid()
    seg.file_meta.MediaStorageSOPInstanceUID = seg.SOPInstanceUID
    seg.ContentCreatorName, seg.SegmentSequence[0].SegmentLabel = "Poe", "Spleen"
    orthanc.store([seg])
    other.open(study)
    assert "Spleen, lesion 2 by Poe" in other.part("open-segmentation").locator("..").inner_text()
    other.press("open-segmentation")
    other.wait_for_message("Opened the segmentation by Poe")
    assert list(other.objects()) == ["Spleen", "lesion 2"]
    check_equal(other.label_map(study).values, shown)


def test_a_draft_is_found_again_on_another_machine_and_not_lost_to_another_author(
    new_panel: NewPanel, study: Study, orthanc: Orthanc
) -> None:
    panel = new_panel()
    panel.open(study)
    panel.part("author").fill("Dr. Roe")
    shown = click(panel, study)
    prompts = panel.prompts()
    panel.press("submit-draft")
    assert "Nothing learns from a draft" in panel.wait_for_message("Stored as draft")
    assert segmentations(orthanc, study) == []
    other = new_panel(is_other_user=True)
    other.forget_user()
    other.page.evaluate("() => localStorage.setItem('sam3d.author', 'Dr. Roe')")
    other.open(study)
    other.wait_for_message("Opened the draft by Dr. Roe")
    assert other.prompts() == prompts
    check_equal(other.label_map(study).values, shown)
    # A third one, who has drawn something else, is asked before that draft is lost.
    third = new_panel(is_other_user=True)
    third.open(study)
    assert third.prompts() == []
    third.part("author").fill("Dr. Poe")
    third.click(voxel_centre(study.geometry, SMALL.centre))
    third.wait()
    third.press("submit-draft")
    third.part("confirm").wait_for()
    assert "by Dr. Roe" in third.page.get_by_role("alertdialog").inner_text()
    third.press("cancel")
    assert third.part("save-state").inner_text() == "Not saved"


def test_what_is_not_saved_is_brought_back_after_a_reload_and_asked_for_before_leaving(
    new_panel: NewPanel, study: Study
) -> None:
    panel = new_panel()
    panel.open(study)
    shown = click(panel, study)
    panel.click(voxel_centre(study.geometry, LARGE.centre, (0.0, 9.0, 0.0)), modifier="Control")
    panel.wait()
    shown, prompts = panel.label_map(study).values.copy(), panel.prompts()
    panel.page.locator("[data-cy='return-to-work-list']").click()
    panel.part("confirm").wait_for()
    panel.press("cancel")
    assert panel.prompts() == prompts
    asked: list[str] = []

    def stay_once(dialog: object) -> None:
        asked.append(dialog.type)  # type: ignore[attr-defined]
        dialog.accept()  # type: ignore[attr-defined]

    panel.page.on("dialog", stay_once)
    panel.page.reload()
    assert asked == ["beforeunload"]
    panel.wait_until_ready()
    panel.wait_for_message("was brought back")
    assert panel.prompts() == prompts
    check_equal(panel.label_map(study).values, shown)
    panel.press("undo")
    assert panel.prompts() == []
    panel.press("redo")
    # A layout of one viewport instead of three keeps all.
    panel.show_one_viewport()
    assert panel.prompts() == prompts
    check_equal(panel.label_map(study).values, shown)
    panel.press("submit-draft")
    panel.wait_for_message("Stored as draft")
    panel.page.locator("[data-cy='return-to-work-list']").click()
    panel.part("panel").wait_for(state="detached")
    assert asked == ["beforeunload"]
