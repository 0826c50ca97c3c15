"""The application in the process of the tests, once for each file that asks for it."""

from collections.abc import Iterator

import pytest

from tests.support.live_app import LiveApp, live_app
from tests.support.noise_site import copy_app, write_studies


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApp]:
    folder = tmp_path_factory.mktemp("live")
    with live_app(copy_app(folder), write_studies(folder / "studies"), folder, conf={"max_upload_mb": "3"}) as app:
        yield app
