import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scenes import GEOMETRIES, LARGE, ORGAN, SMALL, make_scene
from tests.support.dicom_study import Study, centred_geometry, make_study, paint_scene
from tests.support.ohif import missing_browser, missing_current_ohif, open_browser
from tests.support.orthanc import Orthanc, missing_orthanc, start_orthanc
from tests.support.panel import Panel
from tests.support.server import AppServer, copy_app, start_server

NewPanel = Callable[..., Panel]
both_viewers = pytest.mark.parametrize("viewer", ["bundled", "current"])
"""In the OHIF that MONAI Label brings, and in a current one."""


def require(missing: str | None) -> None:
    """Skip where a program is missing; fail where these tests must run (SAM3D_REQUIRE_E2E=1)."""
    if missing is None:
        return
    if os.environ.get("SAM3D_REQUIRE_E2E") == "1":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def studies() -> dict[str, Study]:
    return {name: make_scene(name) for name in GEOMETRIES}


@contextlib.contextmanager
def filled_orthanc(folder: Path, studies: dict[str, Study]) -> Iterator[Orthanc]:
    """A PACS that holds the studies."""
    require(missing_orthanc())
    with start_orthanc(folder) as pacs:
        for study in studies.values():
            pacs.store(study.instances)
        yield pacs


@pytest.fixture(scope="session")
def orthanc(studies: dict[str, Study], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with filled_orthanc(tmp_path_factory.mktemp("orthanc"), studies) as pacs:
        yield pacs


@pytest.fixture(scope="session")
def server(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("server")
    with start_server(copy_app(folder / "app"), orthanc.dicomweb_url, folder) as running:
        yield running


@pytest.fixture(scope="session")
def current_server(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """With a current OHIF, before the same PACS."""
    missing = missing_current_ohif()
    if missing:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("current_server")
    conf = {"ohif": os.environ["SAM3D_OHIF"]}
    with start_server(copy_app(folder / "app"), orthanc.dicomweb_url, folder, conf=conf) as running:
        yield running


@pytest.fixture
def viewer() -> str:
    """Which OHIF the test looks at; tests for both are marked with ``both_viewers``."""
    return "bundled"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes the screenshots."""
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    require(missing_browser())
    with open_browser() as running:
        yield running


@pytest.fixture(scope="module")
def shared_context(browser: Any) -> Any:
    """Keeps the viewer's files from one page to the next."""
    return browser.new_context(viewport={"width": 1600, "height": 1000})


@pytest.fixture
def new_panel(
    browser: Any, shared_context: Any, pictures: Path, viewer: str, request: pytest.FixtureRequest
) -> Iterator[NewPanel]:
    """Opens empty pages, the first as a user who was never here; ``is_other_user`` makes one more."""
    opened: list[Panel] = []

    def new(url: str | None = None, *, is_other_user: bool = False) -> Panel:
        context = browser.new_context(viewport={"width": 1600, "height": 1000}) if is_other_user else shared_context
        server = "server" if viewer == "bundled" else "current_server"
        panel = Panel(context.new_page(), url or request.getfixturevalue(server).url)
        if not opened:
            panel.forget_user()
        opened.append(panel)
        return panel

    yield new
    for number, panel in enumerate(opened):
        panel.screenshot(pictures / f"{request.node.name}-{number}.png")
        panel.page.close()
    assert [panel.errors for panel in opened] == [[]] * len(opened)
    assert [panel.foreign for panel in opened] == [[]] * len(opened)


def store_fresh_study(orthanc: Orthanc) -> Study:
    """A study that no other test has, small, oblique and numbered against its order in space."""
    geometry = centred_geometry((72, 64, 36), (2.4, 3.0, 5.0), centre=(13.0, -40.0, 200.0), tilt_deg=(15.0, -8.0, 20.0))
    image = paint_scene([ORGAN, LARGE, SMALL], geometry, noise_hu=15.0, seed=3)
    study = make_study(image, geometry, patient_name="FRESH", is_instance_number_reversed=True)
    orthanc.store(study.instances)
    return study


@pytest.fixture
def fresh_study(orthanc: Orthanc) -> Study:
    """Of this test alone."""
    return store_fresh_study(orthanc)


@pytest.fixture
def panel(new_panel: NewPanel, study: Study) -> Panel:
    """On the study of the test's own file."""
    panel = new_panel()
    panel.open(study)
    return panel
