"""The panel in OHIF: what it says while it works and of what came of it, and what it sends."""

import re
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from tests.e2e.checks import check_equal
from tests.e2e.scenes import LARGE, voxel_centre
from tests.support.dicom_study import Study
from tests.support.panel import Panel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def study(studies: dict[str, Study]) -> Study:
    return studies["oblique"]


def test_it_says_what_is_under_way_and_how_large_an_object_is_and_never_sends_the_image(
    panel: Panel, study: Study
) -> None:
    held: list[Any] = []
    sent: list[int] = []
    panel.page.on("request", lambda request: sent.append(len(request.post_data_buffer or b"")))
    panel.page.route("**/infer/**", lambda route: held.append(route))
    for n, words in enumerate(("Preparing the series: the first answer takes longer.", "Segmenting...")):
        panel.click(voxel_centre(study.geometry, LARGE.centre, (0.0, 9.0 * n, 0.0)))
        panel.part("busy").filter(has_text=words).wait_for()
        # It says so before the request leaves the browser.
        while not held:
            panel.page.wait_for_timeout(20)
        held.pop().continue_()
        panel.wait()
    values = panel.label_map(study).values
    corners = np.argwhere(values == 1)
    to_lps = study.geometry.index_to_lps
    longest = pdist((corners @ to_lps[:3, :3].T)[:: max(1, len(corners) // 4000)]).max()
    said = re.search(r"([\d.]+) ml, (\d+) mm", panel.part("object").first.inner_text())
    assert said, panel.part("object").first.inner_text()
    assert float(said[1]) == pytest.approx(len(corners) * abs(np.linalg.det(to_lps[:3, :3])) / 1000, abs=0.5)
    assert float(said[2]) == pytest.approx(longest, rel=0.05, abs=1)
    # Everything that was sent is far smaller than one slice.
    assert sent and max(sent) < 10_000 < values[:, :, 0].size * 2


def test_a_click_after_a_change_of_layout_is_the_voxel_under_the_mouse(panel: Panel, study: Study) -> None:
    panel.show_one_viewport()
    clicks = []
    for off_mm in ((0.0, 0.0, 0.0), (0.0, 9.0, 0.0)):
        aim = voxel_centre(study.geometry, LARGE.centre, off_mm)
        panel.click(aim)
        panel.wait()
        clicks.append(study.geometry.voxel(aim))
        assert panel.prompts() == [("+", click) for click in clicks]
    shown = panel.label_map(study).values
    assert shown.any() and all(shown[click] == 1 for click in clicks)
    panel.press("undo")
    panel.press("redo")
    check_equal(panel.label_map(study).values, shown)
