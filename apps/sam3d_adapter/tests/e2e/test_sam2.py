"""SAM 2 as a choice in the panel in OHIF: clicks on two lesions, and undo. The weights are of a short training."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.checks import check_equal, check_place
from tests.e2e.conftest import NewPanel
from tests.e2e.scenes import LARGE, SMALL, voxel_centre
from tests.e2e.test_panel import ask
from tests.support.dicom_study import Study
from tests.support.micro_weights import write_micro_weights
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
    panel = new_panel(sam2_server.url)
    panel.open(study)
    assert panel.part("task").input_value() == "ct"
    panel.part("task").select_option(TASK)
    large, small = (voxel_centre(study.geometry, solid.centre) for solid in (LARGE, SMALL))
    with panel.page.expect_request(f"**/infer/{TASK}?**"):
        panel.click(large)
    panel.wait()
    first = panel.label_map(study).values
    voxel = study.geometry.voxel(large)
    check_equal(first, ask(sam2_server, study, [("+", voxel)], TASK).values)
    check_place(first, LARGE.inside(study.geometry), study.geometry, [voxel])
    # Undo takes the click back, redo brings the same mask.
    panel.press("undo")
    assert not panel.label_map(study).values.any() and panel.prompts() == []
    panel.press("redo")
    check_equal(panel.label_map(study).values, first)
    # A second object leaves the first one as it is.
    panel.press("add-object")
    panel.click(small, "mpr-coronal")
    panel.wait()
    both = panel.label_map(study).values
    check_equal((both == 1).astype(np.uint8), first)
    other = study.geometry.voxel(small)
    assert both[other] == 2 and set(panel.objects()) == {"lesion", "lesion 2"}
    check_place(
        (both == 2).astype(np.uint8), SMALL.inside(study.geometry), study.geometry, [study.geometry.voxel(small)]
    )
