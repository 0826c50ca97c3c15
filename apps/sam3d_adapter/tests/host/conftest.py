"""The application in the process of the tests, once for each file that asks for it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.utils.app import app_instance

from lib.host.patches.endpoints import patch_endpoints, restore_endpoints
from lib.host.patches.web_app import patch_web_app, restore_web_app
from tests.support.live_app import LiveApp, live_app
from tests.support.noise_site import copy_app, write_studies

LIMIT_MB = 3


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApp]:
    folder = tmp_path_factory.mktemp("live")
    conf = {"max_upload_mb": str(LIMIT_MB)}
    with live_app(copy_app(folder), write_studies(folder / "studies"), folder, conf=conf) as app:
        yield app


def _store_of_the_host(studies: Path) -> LocalDatastore:
    return LocalDatastore(str(studies), extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT)


@pytest.fixture
def unpatched(live: LiveApp) -> Iterator[LiveApp]:
    """The same application as MONAI Label ships it."""
    restore_endpoints()
    restore_web_app()
    app = app_instance()
    store, app._datastore = app.datastore(), _store_of_the_host(live.studies)
    yield live
    app._datastore = store
    patch_endpoints()
    patch_web_app(LIMIT_MB * 2**20)
    for left in Path(tempfile.gettempdir()).iterdir():
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
