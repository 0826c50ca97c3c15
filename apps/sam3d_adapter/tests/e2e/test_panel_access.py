"""The panel in OHIF: contrast, names and keys for everybody; and a server that restarts."""

import itertools
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lib.host.process.launch import RunningServer, free_port, running_server
from tests.e2e.checks import check_equal
from tests.e2e.conftest import NewPanel
from tests.e2e.scenes import LARGE, voxel_centre
from tests.support.dicom_study import Study
from tests.support.orthanc import Orthanc
from tests.support.server import copy_app, quiet_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_LEAST_CONTRAST = 4.5
# Text that is shown, its colour, and the first background behind it that is not transparent.
_CONTRASTS = """() => {
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const back = e => {
    for (; e; e = e.parentElement) {
      const [r, g, b, a = 1] = rgb(getComputedStyle(e).backgroundColor);
      if (a > 0.99) return [r, g, b];
    }
    return [0, 0, 0];
  };
  const found = [];
  for (const e of document.querySelectorAll('[data-sam3d=panel] *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest(':disabled')) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(back(e))];
    found.push([e.textContent.trim().slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
  }
  return found;
}"""
_UNNAMED = """() => [...document.querySelectorAll(
    '[data-sam3d=panel] :is(button, input, select, textarea, summary, progress)')]
  .filter(e => e.checkVisibility() && !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))
  .map(e => e.outerHTML.slice(0, 120))"""
_SHOWN = """[...document.querySelectorAll('[data-sam3d=panel] :is(button, input, select, textarea, summary, a)')]
  .filter(e => e.checkVisibility() && !e.disabled)"""
# Name and middle of every control that can be used, in the order of the document.
_CONTROLS = f"""() => {_SHOWN}.map(e => [e, e.getBoundingClientRect()]).map(([e, r]) => [
  e.closest('[data-sam3d=case]')?.dataset.sam3d || e.dataset.sam3d || e.getAttribute('aria-label') || e.textContent,
  r.left + r.width / 2, r.top + r.height / 2])"""
_FOCUSED_CONTROL = f"() => {_SHOWN}.indexOf(document.activeElement)"


@pytest.fixture
def study(studies: dict[str, Study]) -> Study:
    return studies["feet_up"]


def test_every_text_has_contrast_every_control_a_name_and_tab_reaches_all_in_the_order_of_reading(
    new_panel: NewPanel, fresh_study: Study, pictures: Path
) -> None:
    panel = new_panel()
    panel.open(fresh_study)
    panel.click(voxel_centre(fresh_study.geometry, LARGE.centre))
    panel.wait()
    panel.part("author").fill("Dr. Roe")
    panel.press("submit-final")
    panel.press("confirm")
    panel.wait_for_message("Stored as final")
    # What is not always there: a label to review, a second object, the brush's size, a question.
    panel.part("review-state").filter(has_text="submitted").wait_for()
    panel.press("add-object")
    panel.press("mode-brush")
    panel.part("case").first.wait_for()
    panel.press("submit-final")
    panel.part("confirm").wait_for()
    contrasts = panel.page.evaluate(_CONTRASTS)
    assert len(contrasts) > 25
    assert [one for one in contrasts if one[1] < _LEAST_CONTRAST] == []
    assert panel.page.evaluate(_UNNAMED) == []
    places = panel.page.evaluate(_CONTROLS)
    names = [name for name, _, _ in places]
    wanted = {"task", "mode-foreground", "mode-background", "undo", "automatic", "add-object", "overwrite", "author"}
    wanted |= {"review-comment", "review-accept", "review-reject", "submit-draft", "submit-final", "confirm", "cancel"}
    assert wanted | {"Delete: lesion", "next-sample", "train"} <= set(names)
    # The list of cases scrolls on its own, so that the last ones may lie below what comes after it.
    for (name, x, y), (then, next_x, next_y) in itertools.pairwise(one for one in places if one[0] != "case"):
        is_same_row = abs(next_y - y) < 8
        assert next_x > x if is_same_row else next_y > y, f"{then} comes after {name}"
    panel.page.get_by_role("button", name="Mouse and keys").focus()
    cdp = panel.page.context.new_cdp_session(panel.page)
    for at, name in enumerate(names):
        assert panel.page.evaluate(_FOCUSED_CONTROL) == at, name
        focused = cdp.send("Runtime.evaluate", {"expression": "document.activeElement"})["result"]["objectId"]
        said = cdp.send("Accessibility.getPartialAXTree", {"objectId": focused, "fetchRelatives": False})["nodes"][0]
        assert said["name"]["value"].strip(), name
        panel.page.keyboard.press("Tab")
    panel.page.keyboard.press("Shift+Tab")
    assert panel.page.evaluate(_FOCUSED_CONTROL) == len(names) - 1
    # Buttons work by key, and the focus is not lost when the list is drawn anew.
    panel.page.get_by_label("Lock: lesion 2").focus()
    panel.page.keyboard.press("Enter")
    assert panel.page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Unlock: lesion 2"
    panel.page.keyboard.press("?")
    panel.part("help").get_by_text("background click (also Alt, Cmd)").wait_for()
    panel.screenshot(pictures / "help.png")
    panel.page.keyboard.press("Escape")
    assert not panel.part("help").is_visible()


def test_a_server_that_restarts_in_mid_work_costs_nothing(
    new_panel: NewPanel, orthanc: Orthanc, study: Study, tmp_path: Path
) -> None:
    app, port, env = copy_app(tmp_path / "app"), free_port(), quiet_environment(tmp_path)

    def serve() -> AbstractContextManager[RunningServer]:
        return running_server(app, orthanc.dicomweb_url, log_path=tmp_path / "log", port=port, env=env)

    with serve() as running:
        panel = new_panel(running.url)
        panel.open(study)
        panel.click(voxel_centre(study.geometry, LARGE.centre))
        panel.wait()
        before = panel.label_map(study).values.copy()
    panel.click(voxel_centre(study.geometry, LARGE.centre, (0.0, 9.0, 0.0)), modifier="Control")
    panel.wait_for_message("The server does not answer.")
    assert len(panel.prompts()) == 2
    check_equal(panel.label_map(study).values, before)
    with serve():
        panel.press("message-action")
        panel.wait()
        assert panel.part("message").get_attribute("data-kind") != "error"
        after = panel.label_map(study).values
        assert after.any() and (after != before).any()
