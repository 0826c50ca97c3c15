"""The panel in OHIF: the list of cases, the next one, training of the chosen task, and its versions."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import SimpleITK as sitk

from lib.registry.registry import Registry
from lib.registry.version import Facts
from tests.e2e.conftest import NewPanel, filled_orthanc
from tests.e2e.scenes import LARGE
from tests.support.dicom_study import Ellipsoid, Study
from tests.support.orthanc import Orthanc
from tests.support.panel import Panel
from tests.support.server import AppServer, start_server
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
    with start_server(copy_small_app(folder / "app"), pacs.dicomweb_url, folder) as running:
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
    new_panel: NewPanel, learner: AppServer, studies: dict[str, Study], tmp_path: Path
) -> None:
    study, drafted, other = studies["oblique"], studies["sagittal"], studies["feet_up"]
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
    assert states(panel) == {study.series_uid: "new", drafted.series_uid: "draft", other.series_uid: "new"}
    assert "Dr. Poe" in panel.part("case").filter(has_text="draft").inner_text()
    assert "OBLIQUE" not in panel.part("panel").inner_text()
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
