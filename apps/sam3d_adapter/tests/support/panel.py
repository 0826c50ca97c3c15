"""Drives the panel in OHIF as a user does, by the names that docs/ohif.md gives to its parts."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support.dicom_study import Study, Voxel
from tests.support.ohif import SHOW_PLACE, VIEWPORT

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

_FORGET = """() => new Promise((done, failed) => {
  localStorage.clear();
  const request = indexedDB.deleteDatabase('sam3d');
  Object.assign(request, {onsuccess: done, onerror: failed, onblocked: failed});
})"""
_IS_SHOWN = f"""id => {{
  const viewport = window.services?.cornerstoneViewportService && {VIEWPORT};
  return Boolean(viewport?.getImageData?.());
}}"""
_IS_LOADED = "() => window.cornerstone?.cache.getVolumes().some(v => v.loadStatus?.loaded)"
_PLACE_ON_PAGE = f"""([id, point]) => {{
  const viewport = {VIEWPORT};
  const [x, y] = viewport.worldToCanvas(point);
  const canvas = viewport.canvas.getBoundingClientRect();
  return [canvas.left + x, canvas.top + y];
}}"""
# OHIF resets a viewport's camera some time after its size changed, and so moves what was aimed at.
_IS_ALONE_AND_RESET = f"""([id, scale]) =>
  window.services.viewportGridService.getState().viewports.size === 1 && {VIEWPORT}.getCamera().parallelScale !== scale
"""
_OFF_PLANE = f"""([id, point]) => {{
  const {{focalPoint, viewPlaneNormal}} = {VIEWPORT}.getCamera();
  return Math.abs(focalPoint.reduce((sum, value, axis) => sum + (point[axis] - value) * viewPlaneNormal[axis], 0));
}}"""
_WATCH_LATENCY = f"""() => {{
  window.latencies = [];
  let released = null, isPainted = false;
  window.addEventListener('pointerup', () => {{ released = performance.now(); isPainted = false; }}, true);
  window.cornerstone.eventTarget.addEventListener(
    'CORNERSTONE_TOOLS_SEGMENTATION_DATA_MODIFIED', () => {{ isPainted = true; }});
  for (const id of window.services.cornerstoneViewportService.getViewportIds()) {{
    {VIEWPORT}.element.addEventListener('CORNERSTONE_IMAGE_RENDERED', () => {{
      if (released === null || !isPainted) return;
      const from = released;
      released = null;
      requestAnimationFrame(() => window.latencies.push(performance.now() - from));
    }});
  }}
}}"""
_SCROLL_TO = f"([id, point]) => {VIEWPORT}.jumpToWorld(point)"
# The viewer turns to its own panel when there is a segmentation.
_IS_TURNED_AWAY = """series => window.services?.segmentationService.getSegmentation(`sam3d:${series}`)
  && !document.querySelector('[data-sam3d=panel]')"""
_HAS_LABEL_MAP = "series => Boolean(window.cornerstoneTools.segmentation.state.getSegmentation(`sam3d:${series}`))"
# By slice, for a label map is images; those are sorted by their places.
_READ_LABEL_MAP = """async series => {
  const {cache, metaData} = window.cornerstone;
  const state = window.cornerstoneTools.segmentation.state.getSegmentation(`sam3d:${series}`);
  const images = state.representationData.Labelmap.imageIds.map(id => cache.getImage(id));
  const height = image => {
    const {rowCosines: r, columnCosines: c, imagePositionPatient: p} =
      metaData.get('imagePlaneModule', image.referencedImageId);
    return p[0] * (r[1] * c[2] - r[2] * c[1]) + p[1] * (r[2] * c[0] - r[0] * c[2]) + p[2] * (r[0] * c[1] - r[1] * c[0]);
  };
  images.sort((a, b) => height(a) - height(b));
  const url = await new Promise(resolve => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(new Blob(images.map(image => Uint8Array.from(image.voxelManager.getScalarData()))));
  });
  return {
    shape: [images[0].columns, images[0].rows, images.length],
    base64: url.slice(url.indexOf(',') + 1),
    names: Object.fromEntries(Object.values(state.segments).filter(Boolean).map(s => [s.segmentIndex, s.label])),
  };
}"""


@dataclass(frozen=True)
class Shown:
    """The panel's label map as OHIF holds it.

    Attributes:
        values: (i, j, k) uint8, 0 or the number of an object.
        names: of the segments, by number.
    """

    values: np.ndarray
    names: dict[int, str]


class Panel:
    """One page with the panel.

    Args:
        page: an empty page.
        server_url: of the server; kept as an attribute.

    Attributes:
        page: for what has no method here.
        errors: JavaScript exceptions that nobody caught.
        foreign: addresses outside of the server that the page asked for.
    """

    def __init__(self, page: Page, server_url: str) -> None:
        self.page, self.server_url = page, server_url
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.route("**/*", self._serve_own_only)

    def forget_user(self) -> None:
        """As a browser that was never here."""
        self.page.goto(f"{self.server_url}/ohif/app-config.js")
        self.page.evaluate(_FORGET)

    def open(self, study: Study) -> None:
        """Open a study by its address alone, until the panel is ready for clicks."""
        query = urllib.parse.urlencode({"StudyInstanceUIDs": study.study_uid})
        self.page.goto(f"{self.server_url}/ohif/monai-label?{query}")
        self.wait_until_ready()

    def open_in_segmentation_mode(self, study: Study) -> None:
        """Open a study in the mode that a current OHIF has for this: a stack of slices, and a panel of its own."""
        query = urllib.parse.urlencode({"StudyInstanceUIDs": study.study_uid})
        self.page.goto(f"{self.server_url}/ohif/segmentation?{query}")
        self.page.wait_for_function(_IS_TURNED_AWAY, arg=study.series_uid, timeout=120_000)
        self.page.locator("[data-cy='sam3d-btn']").click()
        self.part("object").first.wait_for(timeout=60_000)
        self._confirm_banner()

    def wait_until_ready(self) -> None:
        """Wait for the panel, its object list and the images."""
        self.part("panel").wait_for(timeout=60_000)
        self.page.wait_for_function(_IS_SHOWN, arg="mpr-axial", timeout=120_000)
        self.page.wait_for_function(_IS_LOADED, timeout=120_000)
        self.part("object").first.wait_for(timeout=60_000)
        self._confirm_banner()

    def _confirm_banner(self) -> None:
        banner = self.page.get_by_text("Confirm and Hide")
        if banner.count():
            banner.first.click()

    def part(self, name: str) -> Locator:
        """The elements of that name."""
        return self.page.locator(f"[data-sam3d='{name}']")

    def press(self, name: str) -> None:
        """Click on a button with the mouse."""
        self.part(name).first.click()

    def click(self, place: Sequence[float], viewport: str = "mpr-axial", *, modifier: str | None = None) -> None:
        """Bring a place of the patient into view, enlarged, and click on it.

        Args:
            place: LPS mm.
            viewport: its id.
            modifier: a key to hold, such as ``Control``.
        """
        x, y = self.aim(place, viewport)
        if modifier:
            self.page.keyboard.down(modifier)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.up()
        if modifier:
            self.page.keyboard.up(modifier)

    def aim(self, place: Sequence[float], viewport: str = "mpr-axial") -> tuple[float, float]:
        """Bring a place into view; where it is on the page, in pixels."""
        aim = [viewport, [float(value) for value in place]]
        self.page.evaluate(SHOW_PLACE, aim)
        return self.position(place, viewport)

    def scroll_to(self, place: Sequence[float], viewport: str) -> tuple[float, float]:
        """Show the slice of a place, as the camera stands; where it is on the page, in pixels."""
        self.page.evaluate(_SCROLL_TO, [viewport, [float(value) for value in place]])
        return self.position(place, viewport)

    def show_one_viewport(self, viewport: str = "mpr-axial") -> None:
        """Change the layout to this viewport alone, the first, and wait until it is as it stays."""
        scale = self.page.evaluate(f"id => {VIEWPORT}.getCamera().parallelScale", viewport)
        self.page.locator("[data-cy='Layout']").click()
        self.page.locator("[data-cy='Layout-0-0']").click()
        self.page.wait_for_function(_IS_ALONE_AND_RESET, arg=[viewport, scale], timeout=60_000)
        self.part("object").first.wait_for()

    def position(self, place: Sequence[float], viewport: str) -> tuple[float, float]:
        """Where a place lies on the page as a viewport is now, in pixels."""
        x, y = self.page.evaluate(_PLACE_ON_PAGE, [viewport, [float(value) for value in place]])
        return float(x), float(y)

    def off_plane(self, place: Sequence[float], viewport: str) -> float:
        """How far a place lies off the plane that a viewport shows, in mm."""
        return float(self.page.evaluate(_OFF_PLANE, [viewport, [float(value) for value in place]]))

    def wait(self) -> None:
        """Until no answer is under way."""
        self.part("busy").wait_for(state="detached", timeout=120_000)

    def prompts(self) -> list[tuple[str, Voxel]]:
        """Sign and voxel of the prompts that are listed."""
        found = self.part("prompt").evaluate_all("list => list.map(e => [e.dataset.sign, e.dataset.ijk])")
        return [(sign, _voxel(ijk)) for sign, ijk in found]

    def objects(self) -> dict[str, int]:
        """Voxels by name."""
        found = self.part("object").evaluate_all("list => list.map(e => [e.dataset.name, e.dataset.voxels])")
        return {name: int(voxels) for name, voxels in found}

    def message(self) -> str:
        """The last sentence."""
        return self.part("message").inner_text()

    def wait_for_message(self, words: str) -> str:
        """Until the last sentence holds these words."""
        self.part("message").filter(has_text=words).wait_for(timeout=60_000)
        return self.message()

    def label_map(self, study: Study) -> Shown:
        """What OHIF shows, read from its own memory."""
        self.page.wait_for_function(_HAS_LABEL_MAP, arg=study.series_uid, timeout=30_000)
        read: dict[str, Any] = self.page.evaluate(_READ_LABEL_MAP, study.series_uid)
        values = np.frombuffer(base64.b64decode(read["base64"]), np.uint8)
        names = {int(number): str(name) for number, name in read["names"].items()}
        return Shown(values.reshape(read["shape"][::-1]).transpose(), names)

    def watch_latency(self) -> None:
        """From now on, note how long it takes from the release of the button to a mask on screen."""
        self.page.evaluate(_WATCH_LATENCY)

    def latencies(self) -> list[float]:
        """What was noted, in ms."""
        return [float(value) for value in self.page.evaluate("() => window.latencies")]

    def screenshot(self, path: Path) -> Path:
        """A picture of the page as it is now."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        return path

    def _serve_own_only(self, route: Route) -> None:
        address = route.request.url
        if address.startswith((self.server_url + "/", "data:", "blob:")):
            route.continue_()
            return
        self.foreign.append(address)
        route.abort()


def _voxel(text: str) -> Voxel:
    i, j, k = (int(part) for part in text.split(","))
    return i, j, k
