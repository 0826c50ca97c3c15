"""SAM 2 as a choice in OHIF, in its own panel and in that of MONAI Label. The weights are of a short training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.checks import check_clicks, check_equal, check_grid, check_place, read_mask
from tests.e2e.conftest import NewPanel
from tests.e2e.scenes import LARGE, SMALL, voxel_centre
from tests.e2e.test_panel import ask
from tests.support.dicom_study import Study
from tests.support.micro_weights import write_micro_weights
from tests.support.ohif import Ohif
from tests.support.orthanc import Orthanc
from tests.support.server import AppServer, copy_app, start_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TASK = "sam2_micro"


@pytest.fixture(scope="session")
def micro_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "micro.safetensors"
    write_micro_weights(path)
    return path


@pytest.fixture(scope="module")
def sam2_server(orthanc: Orthanc, micro_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("sam2")
    app = copy_app(folder / "app")
    (app / "model").mkdir(exist_ok=True)
    (app / "model/sam2_micro.safetensors").write_bytes(micro_weights.read_bytes())
    conf = {"models": f"ct,{TASK}"}
    with start_server(app, orthanc.dicomweb_url, folder / "server", conf=conf) as running:
        yield running


def test_it_is_chosen_clicked_corrected_and_undone(
    new_panel: NewPanel, studies: dict[str, Study], sam2_server: AppServer
) -> None:
    study = studies["sagittal"]
    large, small = (voxel_centre(study.geometry, solid.centre) for solid in (LARGE, SMALL))
    on, beside = (study.geometry.voxel(place) for place in (large, small))
    panel = new_panel(sam2_server.url)
    panel.open(study)
    assert panel.part("task").input_value() == "ct"
    panel.part("task").select_option(TASK)
    with panel.page.expect_request(f"**/infer/{TASK}?**"):
        panel.click(large)
    panel.wait()
    first = panel.label_map(study).values
    assert first[on] == 1
    # After so short a training, the network takes everything bright for one object.
    panel.click(small, modifier="Control")
    panel.wait()
    prompts = [("+", on), ("-", beside)]
    assert panel.prompts() == prompts
    corrected = panel.label_map(study).values
    check_equal(corrected, ask(sam2_server, study, prompts, TASK).values)
    check_place(corrected, LARGE.inside(study.geometry), study.geometry, [on])
    panel.press("undo")
    check_equal(panel.label_map(study).values, first)
    panel.press("redo")
    check_equal(panel.label_map(study).values, corrected)
    # A second object leaves the first one as it is.
    panel.press("add-object")
    panel.click(small, "mpr-coronal")
    panel.wait()
    both = panel.label_map(study).values
    check_equal((both == 1).astype(np.uint8), corrected)
    check_place((both == 2).astype(np.uint8), SMALL.inside(study.geometry), study.geometry, [beside])
    assert set(panel.objects()) == {"lesion", "lesion 2"}


def test_it_is_chosen_and_clicked_in_the_panel_of_monai_label(
    browser: Any, studies: dict[str, Study], sam2_server: AppServer, pictures: Path
) -> None:
    study = studies["sagittal"]
    large = voxel_centre(study.geometry, LARGE.centre)
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    try:
        ohif = Ohif(page, sam2_server.url)
        ohif.open_study(study.study_uid)
        ohif.connect()
        ohif.choose_model(TASK)
        ohif.choose_label("lesion")
        ohif.click(large, "mpr-axial")
        inference = ohif.run(TASK)
        ohif.screenshot(pictures / f"{TASK}.png")
    finally:
        page.close()
    assert ohif.errors == []
    on = study.geometry.voxel(large)
    check_clicks(inference.params["foreground"], [on])
    answered, shown = read_mask(inference.answer), inference.label_map
    check_grid(answered, study.geometry)
    check_equal(shown.values == shown.segments["lesion"], answered.values == 1)
    check_equal(answered.values, ask(sam2_server, study, [("+", on)], TASK).values)
    assert answered.values[on] == 1
