"""The panel in OHIF: the list of cases, the next one, training of the chosen task, and its versions."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import SimpleITK as sitk

from lib.audit.log import AuditLog
from lib.registry.registry import Registry
from lib.registry.version import Facts
from tests.e2e.checks import check_equal
from tests.e2e.conftest import NewPanel, filled_orthanc, store_fresh_study
from tests.e2e.scenes import LARGE, voxel_centre
from tests.support.dicom_study import Ellipsoid, Study
from tests.support.orthanc import Orthanc
from tests.support.panel import Panel
from tests.support.server import APP_DIR, AppServer, quiet_environment, start_server
from tests.support.small_app import copy_small_app
from tests.support.trained import write_trained

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

_HAS_BEGUN = "() => !/^(Never|Starting|$)/.test(document.querySelector('[data-sam3d=training-status]').textContent)"


@pytest.fixture(scope="module")
def pacs(studies: dict[str, Study], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Without what other tests store."""
    with filled_orthanc(tmp_path_factory.mktemp("own_orthanc"), studies) as own:
        yield own


@pytest.fixture(scope="module")
def learner(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("panel_learning")
    app = copy_small_app(folder / "app")
    # With the weights that ship; those of the other preset are random, and find nothing.
    shutil.copy(APP_DIR / "configs/ct.yaml", app / "configs/whole.yaml")
    with start_server(app, pacs.dicomweb_url, folder) as running:
        yield running


def save(server: AppServer, study: Study, solid: Ellipsoid, tag: str, author: str, folder: Path) -> None:
    """Store a label as another client does."""
    geometry = study.geometry
    label = sitk.GetImageFromArray(solid.inside(geometry).astype(np.uint8).transpose())
    matrix = geometry.index_to_lps
    label.SetSpacing(geometry.spacing)
    label.SetOrigin(matrix[:3, 3].tolist())
    label.SetDirection((matrix[:3, :3] / np.array(geometry.spacing)).ravel().tolist())
    path = folder / "label.nrrd"
    sitk.WriteImage(label, str(path))
    info = {"label_info": [{"name": "lesion", "idx": 1, "model_name": "test"}], "author": author}
    with path.open("rb") as file:
        answer = requests.put(
            f"{server.url}/datastore/label",
            params={"image": study.series_uid, "tag": tag},
            files={"label": ("label.nrrd", file)},
            data={"params": json.dumps(info)},
            timeout=120,
        )
    assert answer.status_code == 200, answer.text


def states(panel: Panel) -> dict[str, str]:
    """State by SeriesInstanceUID."""
    found = panel.part("case").evaluate_all("list => list.map(e => [e.dataset.id, e.dataset.state])")
    return dict(found)


def test_cases_have_states_and_are_opened_and_next_is_never_the_open_one(
    new_panel: NewPanel, learner: AppServer, pacs: Orthanc, tmp_path: Path
) -> None:
    study, drafted, other = (store_fresh_study(pacs) for _ in range(3))
    save(learner, drafted, LARGE, "draft", "Dr. Poe", tmp_path)
    # What 3D Slicer is shown after Next Sample, of a PACS too.
    asked = {"params": {"image": drafted.series_uid, "output": "json"}, "files": {"params": (None, "{}")}}
    proposed = requests.post(f"{learner.url}/infer/proposal", timeout=120, **asked).json()
    drawn = np.count_nonzero(LARGE.inside(drafted.geometry))
    assert proposed["mask_voxels"] == drawn and "the draft by Dr. Poe" in proposed["warnings"][0]
    panel = new_panel(learner.url)
    panel.open(study)
    assert panel.part("task").input_value() == "test"
    panel.part("case").first.wait_for()
    there = {study.series_uid: "new", drafted.series_uid: "draft", other.series_uid: "new"}
    assert states(panel).items() >= there.items()
    assert "Dr. Poe" in panel.part("case").filter(has_text="draft").inner_text()
    assert "FRESH" not in panel.part("panel").inner_text()
    # Somebody else opens the same series: both are told.
    second = new_panel(learner.url, is_other_user=True)
    second.open(study)
    second.wait_for_message("also has this series open")
    # By the list to a case, by Next Sample to one that is not open.
    with panel.page.expect_navigation():
        panel.part("case").filter(has_text="draft").get_by_role("button").click()
    assert drafted.study_uid in panel.page.url
    panel.wait_until_ready()
    assert "by Dr. Poe" in panel.part("panel").inner_text()
    with panel.page.expect_navigation():
        panel.press("next-sample")
    assert drafted.study_uid not in panel.page.url
    panel.wait_until_ready()


def test_a_training_is_started_watched_stopped_and_its_outcome_read_and_a_version_taken_back(
    new_panel: NewPanel, learner: AppServer, studies: dict[str, Study], tmp_path: Path
) -> None:
    panel = new_panel(learner.url)
    panel.open(studies["oblique"])
    panel.part("training-status").filter(has_text="Never trained here.").wait_for()
    save(learner, studies["oblique"], LARGE, "final", "Dr. Roe", tmp_path)
    save(learner, studies["sagittal"], LARGE, "final", "Dr. Roe", tmp_path)
    panel.press("train")
    panel.wait_for_message("has begun")
    # Only a process that runs can be stopped in the middle of something.
    panel.page.wait_for_function(_HAS_BEGUN, timeout=120_000)
    panel.press("stop-training")
    panel.wait_for_message("was stopped")
    panel.part("training-status").filter(has_text="stopped").wait_for(timeout=60_000)
    # One that somebody else starts is watched as well.
    answer = requests.post(f"{learner.url}/train/test", json={"max_epochs": 1}, timeout=60)
    assert answer.status_code == 200, answer.text
    panel.part("training-outcome").filter(has_text="was not published.").wait_for(timeout=240_000)
    assert "validation" in panel.part("training-outcome").inner_text()
    assert panel.part("version").count() == 1
    # Versions that were published are compared, and one goes back from them.
    versions = Registry(learner.app_dir / "model").of("test", "test")
    weights = write_trained(learner.app_dir / "weights/test_base.safetensors", tmp_path / "w.safetensors", seed=5)
    new = versions.add(weights, Facts("Dr. Roe", metrics={"validation": {"candidate": {"dice_at": [0.5, 0.7]}}}))
    answer = requests.post(f"{learner.url}/versions/test/{new.id}/publish", json={"by": "Dr. Roe"}, timeout=60)
    assert answer.status_code == 200, answer.text
    panel.page.reload()
    panel.wait_until_ready()
    panel.part("version").nth(1).wait_for()
    row = panel.page.locator(f"[data-sam3d=version][data-id='{new.id}']")
    assert row.get_attribute("data-state") == "served" and "0.70" in row.inner_text()
    # Both have been measured, and are drawn as a curve.
    curve = panel.page.get_by_role("img", name="Validation Dice of the versions")
    assert str(curve.get_attribute("aria-label")).endswith(", 0.70")
    panel.press("roll-back")
    assert "Give your name" in panel.message()
    panel.part("author").fill("Dr. Roe")
    panel.press("roll-back")
    panel.press("confirm")
    panel.wait_for_message("Version shipped of task")
    served = requests.get(f"{learner.url}/versions/test", timeout=60).json()
    assert served["served"] == "shipped" and served["history"][-1]["by"] == "Dr. Roe"


def propose(server: AppServer, pacs: Orthanc, preset: str) -> list[str]:
    """What ``sam3d propose`` says beside the running server, a line an image."""
    command = ["propose", "--preset", preset, "--structure", "lesion", "--studies", pacs.dicomweb_url]
    done = subprocess.run(
        [sys.executable, "-m", "sam3d", "--app", str(server.app_dir), *command, "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": str(APP_DIR), **quiet_environment(server.folder)},
        cwd=APP_DIR.parents[1], capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def outcome(server: AppServer, study: Study) -> dict[str, object]:
    """What became of the proposal, by the label that was submitted."""
    asked = {"label": study.series_uid, "tag": "final"}
    return dict(requests.get(f"{server.url}/datastore/label/info", params=asked, timeout=60).json()["proposal"])


def test_a_proposal_is_looked_at_first_and_then_accepted_or_corrected(
    new_panel: NewPanel, learner: AppServer, pacs: Orthanc, studies: dict[str, Study], tmp_path: Path
) -> None:
    study, second, third = (store_fresh_study(pacs) for _ in range(3))
    for one in studies.values():
        save(learner, one, LARGE, "final", "Dr. Roe", tmp_path)
    before = len(pacs.series("SEG"))
    said = propose(learner, pacs, "whole")
    assert {f"{one.series_uid}: proposed" for one in (study, second, third)} <= set(said), said
    # Kept on the server alone, which knows of it at once and has lost nothing.
    assert len(pacs.series("SEG")) == before
    cases = {one["id"]: one for one in requests.get(f"{learner.url}/cases/", timeout=60).json()["cases"]}
    assert cases[study.series_uid]["proposal"] == {"structure": "lesion", "predicted_dice": None}
    assert {cases[one.series_uid]["by"] for one in studies.values()} == {"Dr. Roe"}
    asked = {"params": {"image": study.series_uid, "output": "json"}, "files": {"params": (None, "{}")}}
    slicer = requests.post(f"{learner.url}/infer/proposal", timeout=120, **asked).json()
    assert "a mask that nobody has looked at" in slicer["warnings"][0]
    # In the panel: offered, shown when it is asked for, and no part of a label until it is accepted.
    panel = new_panel(learner.url)
    panel.open(study)
    panel.part("task").select_option("whole")
    assert "proposed" in panel.part("case").filter(has=panel.page.locator("[data-sam3d=proposed]")).first.inner_text()
    panel.part("proposal").wait_for()
    assert not panel.label_map(study).values.any()
    panel.press("show-proposal")
    panel.wait_for_message("nobody has looked at it")
    shown = panel.label_map(study).values.copy()
    assert np.count_nonzero(shown) == slicer["mask_voxels"] == panel.objects()["lesion"]
    assert panel.part("submit-final").is_disabled() and panel.part("save-state").inner_text() == ""
    panel.press("hide-proposal")
    assert not panel.label_map(study).values.any() and panel.part("proposal").is_visible()
    panel.press("undo")
    check_equal(panel.label_map(study).values, shown)
    panel.page.keyboard.press("a")
    assert panel.part("accept-proposal").count() == 0 and panel.part("save-state").inner_text() == "Not saved"
    panel.press("undo")
    assert panel.part("submit-final").is_disabled()
    panel.press("accept-proposal")
    panel.press("submit-final")
    assert "the proposal unchanged" in panel.page.get_by_role("alertdialog").inner_text()
    panel.press("confirm")
    panel.wait_for_message("Stored as final")
    assert outcome(learner, study)["outcome"] == "taken" and outcome(learner, study)["dice"] == 1
    # A click that changes it makes it the user's own as well.
    panel.open(second)
    panel.part("proposal").wait_for()
    panel.page.keyboard.press("o")
    panel.wait_for_message("nobody has looked at it")
    panel.click(voxel_centre(second.geometry, LARGE.centre, (0.0, 9.0, 0.0)), modifier="Control")
    panel.wait()
    assert panel.part("accept-proposal").count() == 0
    panel.press("submit-final")
    panel.press("confirm")
    assert "will learn from it." in panel.wait_for_message("Stored as final")
    assert outcome(learner, second)["outcome"] in ("corrected", "replaced")
    # One that is of no use is offered to nobody any more.
    panel.open(third)
    panel.part("proposal").wait_for()
    panel.press("show-proposal")
    panel.wait_for_message("nobody has looked at it")
    with panel.page.expect_response(lambda one: one.url.endswith("/proposal") and one.ok):
        panel.press("reject-proposal")
    assert not panel.label_map(third).values.any() and panel.part("proposal").count() == 0
    known = requests.get(f"{learner.url}/cases/", timeout=60).json()["cases"]
    assert next(one for one in known if one["id"] == third.series_uid)["proposal"] is None
    panel.open(third)
    panel.part("task").wait_for()
    assert panel.part("proposal").count() == 0
    records = AuditLog(learner.app_dir / "logs/audit", 2**20).records(containing='"proposal"')
    assert {"taken", "rejected"} <= {record.get("proposal") for record in records}
