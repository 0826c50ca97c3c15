import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scenes import GEOMETRIES, make_scene
from tests.support.dicom_study import Study
from tests.support.orthanc import Orthanc, missing_orthanc, start_orthanc
from tests.support.server import AppServer, copy_app, start_server


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


@pytest.fixture(scope="session")
def orthanc(studies: dict[str, Study], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    require(missing_orthanc())
    with start_orthanc(tmp_path_factory.mktemp("orthanc")) as pacs:
        for study in studies.values():
            pacs.store(study.instances)
        yield pacs


@pytest.fixture(scope="session")
def server(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("server")
    with start_server(copy_app(folder / "app"), orthanc.dicomweb_url, folder) as running:
        yield running


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes the screenshots."""
    return tmp_path_factory.mktemp("pictures")
