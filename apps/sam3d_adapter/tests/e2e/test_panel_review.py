"""The panel in OHIF: a second reader accepts, rejects, corrects, and takes that back."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import SimpleITK as sitk

from tests.e2e.checks import check_equal
from tests.e2e.conftest import NewPanel
from tests.e2e.scenes import LARGE, SMALL, voxel_centre
from tests.support.dicom_study import Ellipsoid, Study
from tests.support.orthanc import Orthanc
from tests.support.panel import Panel
from tests.support.server import AppServer, copy_app, start_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROE, POE = "Dr. Roe", "Dr. Poe"


@pytest.fixture
def study(fresh_study: Study) -> Study:
    return fresh_study


def submit(server: AppServer, study: Study, solid: Ellipsoid, folder: Path, author: str = ROE) -> np.ndarray:
    """A final label as another program stores it; its voxels, (i, j, k) uint8."""
    image = requests.get(f"{server.url}/datastore/image", params={"image": study.series_uid}, timeout=60)
    (folder / "image.nii.gz").write_bytes(image.content)
    voxels = solid.inside(study.geometry).astype(np.uint8)
    label = sitk.GetImageFromArray(voxels.transpose())
    label.CopyInformation(sitk.ReadImage(str(folder / "image.nii.gz")))
    sitk.WriteImage(label, str(folder / "label.nii.gz"))
    answer = requests.put(
        f"{server.url}/datastore/label",
        params={"image": study.series_uid, "tag": "final"},
        data={"params": json.dumps({"label_info": [{"name": "lesion", "idx": 1}], "author": author, "model": "ct"})},
        files={"label": ("label.nii.gz", (folder / "label.nii.gz").read_bytes())},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return voxels


def label_of(server: AppServer, study: Study) -> dict[str, Any]:
    """The entry of ``GET /labels/`` of the final label."""
    found = requests.get(f"{server.url}/labels/", params={"image": study.series_uid}, timeout=60).json()["labels"]
    (label,) = [one for one in found if one["tag"] == "final" and one["is_current"]]
    return dict(label)


def wait_for_state(panel: Panel, words: str) -> str:
    """Until the section says so; the state of the label."""
    panel.part("review-state").filter(has_text=words).wait_for()
    return str(panel.part("review-state").get_attribute("data-state"))


def test_a_label_is_accepted_withdrawn_and_rejected_and_what_the_server_refuses_is_said(
    new_panel: NewPanel, study: Study, server: AppServer, tmp_path: Path, pictures: Path
) -> None:
    panel = new_panel()
    panel.open(study)
    assert not panel.page.get_by_role("region", name="Review").is_visible()
    voxels = submit(server, study, LARGE, tmp_path)
    panel.open(study)
    assert wait_for_state(panel, "submitted, waits for a review decision") == "submitted"
    assert "Final label by Dr. Roe" in panel.part("review-state").inner_text()
    # Nobody decides without a name, nor on what was not looked at.
    panel.press("review-accept")
    assert "Write your name" in panel.message()
    panel.part("author").fill(POE)
    panel.press("review-accept")
    assert "Look at the label first" in panel.message()
    panel.press("message-action")
    panel.wait_for_message("Opened the final label by Dr. Roe")
    check_equal(panel.label_map(study).values, voxels)
    panel.part("open-final").wait_for(state="detached")
    panel.screenshot(pictures / "review.png")
    panel.press("review-accept")
    assert wait_for_state(panel, "accepted by Dr. Poe") == label_of(server, study)["state"] == "accepted"
    assert "is accepted now" in panel.message() and panel.part("review-accept").is_disabled()
    panel.press("review-withdraw")
    assert wait_for_state(panel, "submitted") == label_of(server, study)["state"] == "submitted"
    # By keyboard alone, from the comment on.
    panel.press("review-reject")
    assert "Say what is wrong" in panel.message()
    panel.part("review-comment").focus()
    panel.page.keyboard.type("The tail is missing.")
    panel.page.keyboard.press("Tab")
    panel.page.keyboard.press("Tab")
    panel.page.keyboard.press("Enter")
    assert wait_for_state(panel, "rejected by Dr. Poe: The tail is missing.") == "rejected"
    assert label_of(server, study)["review"]["comment"] == "The tail is missing."
    case = panel.page.locator(f"[data-sam3d='case'][data-id='{study.series_uid}'][data-state='rejected']")
    case.filter(has_text="The tail is missing.").wait_for()
    # His own label, and one that was replaced since it was shown.
    panel.part("author").fill("dr. roe")
    panel.press("review-accept")
    panel.wait_for_message("nobody accepts his own")
    panel.part("author").fill(POE)
    submit(server, study, SMALL, tmp_path)
    panel.press("review-accept")
    panel.wait_for_message("was replaced or deleted in the meantime")
    assert wait_for_state(panel, "submitted, waits") == "submitted"
    panel.press("review-accept")
    assert "Look at the label first" in panel.message()


def test_a_correction_names_the_label_that_it_corrects_also_after_a_reload(
    new_panel: NewPanel, study: Study, server: AppServer, tmp_path: Path
) -> None:
    submit(server, study, LARGE, tmp_path)
    first = label_of(server, study)
    panel = new_panel()
    panel.open(study)
    panel.part("author").fill(POE)
    panel.press("open-final")
    panel.wait_for_message("Opened the final label by Dr. Roe")
    assert panel.part("review-correct").is_disabled()
    panel.press("add-object")
    panel.click(voxel_centre(study.geometry, SMALL.centre))
    panel.wait()
    shown = panel.label_map(study).values.copy()
    assert (shown == 2).any()
    panel.page.on("dialog", lambda dialog: dialog.accept())
    panel.page.reload()
    panel.wait_until_ready()
    panel.wait_for_message("was brought back")
    panel.press("review-correct")
    assert "as a correction of the label by Dr. Roe" in panel.page.get_by_role("alertdialog").inner_text()
    panel.press("confirm")
    panel.wait_for_message("Stored as final")
    second = label_of(server, study)
    assert (second["parent"], second["author"], second["state"]) == (first["id"], POE, "submitted")
    reviews = requests.get(f"{server.url}/reviews/", params={"label": first["id"]}, timeout=60).json()["reviews"]
    assert [(one["decision"], one["by"], one["new_label"]) for one in reviews] == [("correct", POE, second["id"])]
    stored = requests.get(
        f"{server.url}/datastore/label", params={"label": study.series_uid, "tag": "final"}, timeout=60
    )
    (tmp_path / "stored.nrrd").write_bytes(stored.content)
    check_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "stored.nrrd"))).transpose(), shown)


def test_a_label_that_the_pacs_alone_has_keeps_its_state_and_opens_for_a_review(
    new_panel: NewPanel, study: Study, server: AppServer, tmp_path: Path
) -> None:
    voxels = submit(server, study, LARGE, tmp_path)
    label = label_of(server, study)
    said = {"label": label["id"], "decision": "reject", "by": POE, "comment": "The tail is missing."}
    assert requests.post(f"{server.url}/reviews/", json=said, timeout=60).status_code == 200
    for file in (server.folder / "dicom_cache").glob(f"*/labels/final/{study.series_uid}*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    panel = new_panel()
    panel.open(study)
    panel.part("author").fill("Dr. Doe")
    assert wait_for_state(panel, "rejected by Dr. Poe: The tail is missing.") == "rejected"
    assert label_of(server, study)["id"] == label["id"]
    panel.press("open-final")
    panel.wait_for_message("Opened the final label by Dr. Roe")
    check_equal(panel.label_map(study).values, voxels)
    panel.press("review-accept")
    assert wait_for_state(panel, "accepted by Dr. Doe") == label_of(server, study)["state"] == "accepted"


def test_on_a_server_for_readers_labels_are_reviewed_and_corrected_by_hand(
    new_panel: NewPanel, study: Study, orthanc: Orthanc, tmp_path: Path
) -> None:
    app = copy_app(tmp_path / "app")
    with start_server(app, orthanc.dicomweb_url, tmp_path / "server", conf={"review_only": "yes"}) as server:
        voxels = submit(server, study, LARGE, tmp_path)
        first = label_of(server, study)
        panel = new_panel(server.url)
        panel.open(study)
        assert not panel.part("task").is_visible() and not panel.part("train").is_visible()
        panel.part("author").fill(POE)
        panel.press("open-final")
        panel.wait_for_message("Opened the final label by Dr. Roe")
        x, y = panel.aim(np.add(LARGE.centre, (16.0, 0.0, 0.0)))
        panel.page.mouse.click(x, y)
        assert "it segments nothing" in panel.message() and panel.prompts() == []
        panel.press("mode-brush")
        panel.page.mouse.move(x, y)
        panel.page.mouse.down()
        panel.page.mouse.move(x + 20, y, steps=4)
        panel.page.mouse.up()
        panel.page.wait_for_function(
            f"() => Number(document.querySelector('[data-sam3d=object]').dataset.voxels) > {voxels.sum()}"
        )
        panel.press("review-correct")
        panel.press("confirm")
        panel.wait_for_message("Stored as final")
        second = label_of(server, study)
        assert (second["parent"], second["author"], second["state"]) == (first["id"], POE, "submitted")
        panel.part("author").fill("Dr. Doe")
        panel.press("review-accept")
        assert wait_for_state(panel, "accepted by Dr. Doe") == label_of(server, study)["state"] == "accepted"
