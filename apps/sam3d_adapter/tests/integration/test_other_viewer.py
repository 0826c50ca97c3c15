"""Another built OHIF in place of the one that MONAI Label brings."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_app import LiveApp, live_app
from tests.support.noise_site import copy_app, write_studies

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_PAGE = "<!doctype html><script src=/app.js></script>"


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As npm has it: built for the root of a server, and set for a server of somebody else."""
    folder = tmp_path_factory.mktemp("viewer")
    (folder / "assets" / "images").mkdir(parents=True)
    (folder / "assets" / "images" / "logo.svg").write_text("<svg/>")
    (folder / "index.html").write_text(_PAGE)
    (folder / "app.js").write_text("1;")
    (folder / "app-config.js").write_text("window.config = {extensions: ['own'], modes: ['own']};")
    (folder.parent / "secret.js").write_text("2;")
    return folder


@pytest.fixture(scope="module")
def live(viewer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApp]:
    folder = tmp_path_factory.mktemp("live")
    conf = {"ohif": str(viewer)}
    with live_app(copy_app(folder), write_studies(folder / "studies"), folder, conf=conf) as app:
        yield app


def test_its_page_answers_each_address_below_ohif_and_its_files_lie_where_it_asks(live: LiveApp) -> None:
    for address in ("", "monai-label?StudyInstanceUIDs=1.2", "assets", "..%2fsecret.js", "%2e%2e%2fsecret.js", "%00"):
        assert live.ask("GET", f"/ohif/{address}").text == _PAGE
    for root in ("", "/ohif"):
        for file, text in (("app.js", "1;"), ("assets/images/logo.svg", "<svg/>")):
            answer = live.ask("GET", f"{root}/{file}")
            assert (answer.status_code, answer.text) == (200, text)
    for address in ("assets/", "assets/none.svg", "assets/..%2f..%2fsecret.js", "secret.js", "none.js"):
        assert live.ask("GET", f"/{address}").status_code == 404
    # What the server answers itself stays its own.
    assert live.ask("GET", "/info/").json()["name"] == "3DSAM-adapter"
    assert live.ask("GET", "/infer/test").status_code == 405


def test_its_settings_stay_but_for_the_server_the_panel_and_the_mode(live: LiveApp) -> None:
    for address, base in (("/ohif/app-config.js", ""), ("/app-config.js", "ohif/")):
        text = live.ask("GET", address).text
        assert text.startswith("window.config = {extensions: ['own'], modes: ['own']};")
        for part in ('"routerBasename": "/ohif/"', '"qidoRoot": "/proxy/dicom/qido"', f"'{base}sam3d/mode.mjs'",
                     f"'{base}sam3d/extension.mjs'", "...(window.config.modes || [])"):  # fmt: skip
            assert part in text
    assert live.ask("GET", "/ohif/sam3d/mode.mjs").status_code == 200
