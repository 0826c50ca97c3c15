"""Makes the pictures of docs/ohif.md, from real server, PACS and browser: ``python -m tests.e2e.ohif_pictures OUT``."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.e2e.scenes import LARGE, SMALL, make_scene, voxel_centre
from tests.e2e.test_panel_learning import propose, save
from tests.support.dicom_study import Study
from tests.support.ohif import open_browser
from tests.support.orthanc import Orthanc, start_orthanc
from tests.support.panel import Panel
from tests.support.server import AppServer, copy_app, start_server

_SIZE = (1600, 1000)
_GIF_SIZE = (960, 600)
_FRAME_MS = 1300


class Film:
    """The pictures of one walk through the panel.

    Args:
        panel: what is shown.
        out: takes the files.
    """

    def __init__(self, panel: Panel, out: Path) -> None:
        self._panel, self._out = panel, out
        self._frames: list[Image.Image] = []

    def take(self, name: str | None = None) -> None:
        """A frame of the animation; with a name, a picture of its own as well."""
        shot = self._still()
        if name:
            image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(256, kmeans=1)
            image.save(self._out / f"{name}.png", optimize=True)
        self._frames.append(Image.open(io.BytesIO(shot)).convert("RGB").resize(_GIF_SIZE, Image.Resampling.LANCZOS))

    def _still(self) -> bytes:
        """The page once it has been the same three times in a row: a view is drawn some time after what it shows."""
        shots: list[bytes] = []
        while len(shots) < 3 or len(set(shots[-3:])) > 1:
            self._panel.page.wait_for_timeout(500)
            shots.append(self._panel.page.screenshot())
        return shots[-1]

    def save(self, name: str) -> None:
        """The animation."""
        frames = [frame.quantize(128, kmeans=1) for frame in self._frames]
        frames[0].save(
            self._out / name, save_all=True, append_images=frames[1:], duration=_FRAME_MS, loop=0, optimize=True
        )


def walk(panel: Panel, study: Study, out: Path) -> None:
    """Click, correct, a second lesion, submit; then the second reader, and the training."""
    film = Film(panel, out)
    views = ("mpr-axial", "mpr-sagittal", "mpr-coronal")
    large, small = (voxel_centre(study.geometry, solid.centre) for solid in (LARGE, SMALL))
    panel.open(study)
    for view in views:
        panel.aim(large, view)
    film.take()
    panel.click(large)
    panel.wait()
    film.take("click")
    panel.click(voxel_centre(study.geometry, LARGE.centre, (9.0, 6.0, 0.0)), modifier="Control")
    panel.wait()
    film.take("correct")
    panel.press("undo")
    film.take()
    panel.press("add-object")
    for view in views:
        panel.aim(small, view)
    panel.click(small, "mpr-coronal")
    panel.wait()
    film.take("objects")
    panel.part("author").fill("Dr. Roe")
    panel.press("submit-final")
    film.take("submit")
    panel.press("confirm")
    panel.wait_for_message("Stored as final")
    film.take()
    film.save("loop.gif")
    panel.open(study)
    panel.part("author").fill("Dr. Poe")
    panel.press("open-final")
    panel.wait_for_message("Opened the final label by Dr. Roe")
    for view in views:
        panel.aim(large, view)
    panel.part("review-comment").fill("The upper pole is missing.")
    panel.part("submit-final").scroll_into_view_if_needed()
    film.take("review")
    panel.part("case").first.wait_for()
    panel.press("train")
    panel.wait_for_message("has begun")
    panel.part("training-status").filter(has_text="epoch").wait_for(timeout=300_000)
    panel.part("stop-training").scroll_into_view_if_needed()
    film.take("training")
    panel.press("stop-training")
    panel.wait_for_message("was stopped")


def propose_and_show(panel: Panel, server: AppServer, orthanc: Orthanc, labelled: list[Study], out: Path) -> None:
    """A mask that the server proposes for a new case, after some are labelled."""
    with tempfile.TemporaryDirectory() as name:
        for one in labelled:
            save(server, one, LARGE, "final", "Dr. Roe", Path(name))
    new = make_scene("oblique")
    orthanc.store(new.instances)
    propose(server, orthanc, "ct")
    panel.open(new)
    panel.part("proposal").wait_for()
    panel.press("show-proposal")
    panel.wait_for_message("nobody has looked at it")
    for view in ("mpr-axial", "mpr-sagittal", "mpr-coronal"):
        panel.aim(voxel_centre(new.geometry, LARGE.centre), view)
    Film(panel, out).take("proposal")


def main(out: Path) -> None:
    """Start everything, make the pictures, end everything."""
    out.mkdir(parents=True, exist_ok=True)
    study = make_scene("oblique")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with start_orthanc(folder / "orthanc") as orthanc:
            others = [make_scene("sagittal"), make_scene("feet_up")]
            for scene in (study, *others):
                orthanc.store(scene.instances)
            app = copy_app(folder / "app")
            with start_server(app, orthanc.dicomweb_url, folder / "server") as server, open_browser() as browser:
                page = browser.new_page(viewport={"width": _SIZE[0], "height": _SIZE[1]})
                panel = Panel(page, server.url)
                walk(panel, study, out)
                propose_and_show(panel, server, orthanc, others, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
