"""Drives the OHIF that MONAI Label serves in a headless Chromium as a user does: real clicks, nothing stubbed."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.host.process.launch import LOOPBACK, free_port, wait_for_answer

if TYPE_CHECKING:  # tests are collected, to be skipped, where it is not installed
    from playwright.sync_api import Browser, Locator, Page, Route

_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Without GPU, X server or network; --no-sandbox because containers run tests as root.
_CHROMIUM_ARGS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
_TOOL = "ProbeMONAILabel"
_SEGMENTATION = "1"
_UPDATE_OR_STOP = re.compile("Update Model|Stop Training")
VIEWPORT = "window.services.cornerstoneViewportService.getCornerstoneViewport(id)"
_LABEL_MAP = f"window.services.segmentationService.getLabelmapVolume('{_SEGMENTATION}')"

_IS_VOLUME_SHOWN = f"""id => {{
  const viewport = window.services?.cornerstoneViewportService && {VIEWPORT};
  return Boolean(viewport?.getImageData?.()) && window.cornerstone.cache.getVolumes().some(v => v.loadStatus?.loaded);
}}"""
# Zoomed to about 0.2 mm per pixel, so that a pixel belongs to one voxel; the place is not the middle of the viewport.
# OHIF may still reset the camera after a change of size: done when the view has held for some frames.
SHOW_PLACE = f"""async ([id, point]) => {{
  const frame = () => new Promise(done => requestAnimationFrame(done));
  const show = viewport => {{
    const {{focalPoint, position, viewUp}} = viewport.getCamera();
    const shift = focalPoint.map((from, axis) => point[axis] - 9 * viewUp[axis] - from);
    const shifted = from => from.map((value, axis) => value + shift[axis]);
    viewport.setCamera({{focalPoint: shifted(focalPoint), position: shifted(position), parallelScale: 90}});
    viewport.render();
  }};
  const view = () => {{
    const viewport = {VIEWPORT};
    const {{left, top}} = viewport.canvas.getBoundingClientRect();
    return JSON.stringify([left, top, ...viewport.worldToCanvas(point), viewport.getCamera().focalPoint].flat()
      .map(Math.round));
  }};
  const showAndLook = async () => {{
    show({VIEWPORT});
    await frame();
    return view();
  }};
  let shown = await showAndLook();
  for (let held = 0; held < 5; held++) {{
    await frame();
    if (view() === shown) continue;
    shown = await showAndLook();
    held = -1;
  }}
}}"""
_PLACE_ON_PAGE = f"""([id, point]) => {{
  const viewport = {VIEWPORT};
  const [x, y] = viewport.worldToCanvas(point);
  const canvas = viewport.canvas.getBoundingClientRect();
  return {{x: canvas.left + x, y: canvas.top + y, inside: x > 0 && y > 0 && x < canvas.width && y < canvas.height}};
}}"""
_COUNT_POINTS = f"""() => window.cornerstoneTools.annotation.state.getAllAnnotations()
  .filter(annotation => annotation.metadata.toolName === '{_TOOL}').length"""
_WATCH_PAINTING = """() => {
  window.painting = 'awaited';
  const on = (event, from, to) => window.cornerstone.eventTarget.addEventListener(
    `CORNERSTONE_TOOLS_SEGMENTATION_${event}`, () => { if (window.painting === from) window.painting = to; });
  on('DATA_MODIFIED', 'awaited', 'changed');
  on('RENDERED', 'changed', 'shown');
}"""
_READ_LABEL_MAP = f"""async () => {{
  const volume = {_LABEL_MAP};
  const values = volume.voxelManager.getCompleteScalarDataArray();
  const bytes = Uint8Array.from(values);
  const url = await new Promise(resolve => {{
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(new Blob([bytes]));
  }});
  const segments = window.services.segmentationService.getSegmentations()[0].segments;
  return {{
    dimensions: Array.from(volume.dimensions),
    base64: url.slice(url.indexOf(',') + 1),
    segments: Object.values(segments).filter(Boolean).map(s => [s.label, s.segmentIndex]),
  }};
}}"""


class OhifError(RuntimeError):
    """OHIF did not do what a user would expect of it."""


@dataclass(frozen=True)
class LabelMap:
    """What OHIF holds as segmentation.

    Attributes:
        values: (i, j, k) uint8, segment numbers.
        segments: number by label.
    """

    values: np.ndarray
    segments: dict[str, int]


@dataclass(frozen=True)
class Inference:
    """One press of Run.

    Attributes:
        path: path and query of the request.
        params: what OHIF sent with it.
        answer: body of the response.
        label_map: OHIF's segmentation afterwards.
    """

    path: str
    params: dict[str, Any]
    answer: bytes
    label_map: LabelMap


class Ohif:
    """One page; ``errors`` collects the JavaScript exceptions that nobody caught.

    Args:
        page: an empty page.
        server_url: MONAI Label's, which serves OHIF too.
    """

    def __init__(self, page: Page, server_url: str) -> None:
        self._page = page
        self._server_url = server_url
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.route("**/*", self._serve_own_only)

    def open_study(self, study_uid: str) -> None:
        """Open a study in the MONAI Label mode and wait until its volume is loaded."""
        query = urllib.parse.urlencode({"StudyInstanceUIDs": study_uid})
        self._page.goto(f"{self._server_url}/ohif/monai-label?{query}")
        # Our own panel opens by itself; MONAI Label's is the other tab.
        self._page.locator("[data-sam3d=panel]").wait_for(timeout=60_000)
        self._page.locator("[data-cy='monailabel-btn']").click()
        self._page.locator("#monailabelServerURL").wait_for(timeout=60_000)
        self._page.wait_for_function(_IS_VOLUME_SHOWN, arg="mpr-axial", timeout=120_000)
        banner = self._page.get_by_text("Confirm and Hide")
        if banner.count():
            banner.first.click()

    def connect(self) -> None:
        """Ask the server for its models."""
        self._page.fill("#monailabelServerURL", self._server_url)
        with self._page.expect_response(lambda response: response.url.split("?")[0].endswith("/info/")):
            self._page.locator(".settingsTable button.actionButton").first.click()

    def choose_model(self, model: str) -> None:
        """Take a model in the panel Point Prompts."""
        tab = self._point_prompts()
        tab.locator("label.tab-label").click()
        tab.locator("select").first.select_option(model)
        # Run writes into this; pressed before it exists, the answer is lost.
        self._page.wait_for_function(f"() => Boolean({_LABEL_MAP})", timeout=30_000)

    def choose_label(self, label: str) -> None:
        """Take the label that clicks and answers belong to."""
        self._point_prompts().locator("tr.clickable-row").get_by_text(label, exact=True).first.click()
        self._page.wait_for_timeout(300)

    def click(self, point: Sequence[float], viewport: str) -> None:
        """Bring a place of the patient into view, enlarged, and click on it with the mouse.

        Args:
            point: LPS mm.
            viewport: ``mpr-axial``, ``mpr-sagittal`` or ``mpr-coronal``.

        Raises:
            OhifError: the place is not shown, or no point appears.
        """
        aim = [viewport, [float(value) for value in point]]
        before = self._page.evaluate(_COUNT_POINTS)
        # A click on a viewport that is not active only activates it.
        for _ in range(3):
            self._page.evaluate(SHOW_PLACE, aim)
            self._page.wait_for_timeout(500)
            place = self._page.evaluate(_PLACE_ON_PAGE, aim)
            if not place["inside"]:
                raise OhifError(f"{point} lies outside what {viewport} shows: {place}")
            self._page.mouse.move(place["x"], place["y"])
            self._page.mouse.down()
            self._page.wait_for_timeout(60)
            self._page.mouse.up()
            self._page.wait_for_timeout(300)
            if self._page.evaluate(_COUNT_POINTS) > before:
                return
        raise OhifError(f"No point after three clicks on {viewport} at {place}")

    def run(self, model: str) -> Inference:
        """Press Run and wait for the answer to be painted.

        Raises:
            OhifError: the server refused.
            playwright.sync_api.TimeoutError: no answer, or none that OHIF paints.
        """
        button = self._point_prompts().locator("button.actionButton").first
        self._page.evaluate(_WATCH_PAINTING)
        with self._page.expect_response(lambda r: f"/infer/{model}" in r.url, timeout=120_000) as caught:
            button.click()
        response = caught.value
        if response.status != 200:
            raise OhifError(f"The server answered {response.status}: {response.text()}")
        params = multipart_params(response.request.post_data_buffer or b"")
        answer = response.body()
        # An empty mask is never painted: the wait then ends in Playwright's TimeoutError.
        self._page.wait_for_function("() => window.painting === 'shown'", timeout=30_000)
        url = urllib.parse.urlsplit(response.request.url)
        return Inference(f"{url.path}?{url.query}", params, answer, self.label_map())

    def press_update_model(self, *, times: int = 1) -> None:
        """Press the button that updates the model, or stops that, so fast that no answer comes in between."""
        tab = self._page.locator(".tab", has=self._page.locator("label.tab-label", has_text="Active Learning")).first
        button = tab.locator("button", has_text=_UPDATE_OR_STOP)
        if not button.is_visible():
            tab.locator("label.tab-label").click()
        was = button.inner_text()
        button.evaluate("(button, times) => { for (let n = 0; n < times; n += 1) button.click(); }", times)
        self._page.wait_for_function(
            "([button, was]) => button.innerText !== was", arg=[button.element_handle(), was], timeout=60_000
        )

    def clear_points(self) -> None:
        """Drop the points of all labels; the segmentation stays."""
        self._point_prompts().get_by_text("Clear All Points").click()
        self._page.wait_for_function(f"() => ({_COUNT_POINTS})() === 0", timeout=5_000)

    def label_map(self) -> LabelMap:
        """OHIF's segmentation as it is now."""
        read = self._page.evaluate(_READ_LABEL_MAP)
        values = np.frombuffer(base64.b64decode(read["base64"]), np.uint8)
        # The column index runs fastest.
        volume = values.reshape(read["dimensions"][::-1]).transpose()
        return LabelMap(volume, {str(label): int(number) for label, number in read["segments"]})

    def screenshot(self, path: Path) -> Path:
        """A picture of the page as it is now."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._page.screenshot(path=path)
        return path

    def _point_prompts(self) -> Locator:
        return self._page.locator(".tab", has=self._page.locator("label.tab-label", has_text="Point Prompts")).first

    @staticmethod
    def _serve_own_only(route: Route) -> None:
        """Fonts and the like from elsewhere: tests run without network."""
        if urllib.parse.urlsplit(route.request.url).hostname in ("127.0.0.1", None):
            route.continue_()
        else:
            route.abort()


@contextlib.contextmanager
def open_ohif(server_url: str) -> Iterator[Ohif]:
    """A browser with one page for the time of the ``with`` block."""
    with open_browser() as browser:
        yield Ohif(browser.new_page(viewport={"width": 1600, "height": 1000}), server_url)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium for the time of the ``with`` block."""
    missing = missing_browser()
    if missing:
        raise RuntimeError(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_binary(), headless=True, args=list(_CHROMIUM_ARGS))
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def run_browser(profile: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Chromium with a profile that stays, killed at the end without a word: its process, and its address for CDP."""
    port = free_port()
    command = [
        str(_binary()), "--headless=new", f"--user-data-dir={profile}", f"--remote-debugging-port={port}",
        "--window-size=1600,1000", *_CHROMIUM_ARGS, "about:blank",
    ]  # fmt: skip
    with profile.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://{LOOPBACK}:{port}"
        wait_for_answer(process, f"{url}/json/version", log_path=profile.with_suffix(".log"), timeout_s=60)
        yield process, url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def missing_browser() -> str | None:
    """Why no browser can be started here, or None."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (pip install -r requirements-dev.txt)"
    return None if _binary() else "Chromium is not installed (Debian: apt install chromium)"


def missing_current_ohif() -> str | None:
    """Why no current OHIF can be served here, or None."""
    folder = os.environ.get("SAM3D_OHIF")
    if folder and (Path(folder) / "index.html").is_file():
        return None
    return f"SAM3D_OHIF is {folder or 'not set'}; it names the folder of a built OHIF (`make ohif` fetches one)"


def multipart_params(body: bytes) -> dict[str, Any]:
    """The JSON in the field ``params`` of a multipart body.

    Raises:
        OhifError: there is none.
    """
    _, found, rest = body.partition(b'name="params"')
    if not found:
        raise OhifError(f"No params in the request: {body[:200]!r}")
    text = rest.partition(b"\r\n\r\n")[2].rpartition(b"}")[0] + b"}"
    return dict(json.loads(text))


def _binary() -> str | None:
    return next((path for name in _CHROMIUM_NAMES if (path := shutil.which(name))), None)
