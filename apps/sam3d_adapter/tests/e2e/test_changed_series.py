"""A series that goes on arriving while two viewers are at work on it: OHIF in a browser, and one that downloads it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.e2e.checks import check_place
from tests.e2e.conftest import require
from tests.e2e.scenes import LARGE, SMALL, make_scene, voxel_centre
from tests.support.dicom_study import Study, Voxel
from tests.support.ohif import Ohif, OhifError, missing_browser, open_ohif
from tests.support.orthanc import Orthanc, missing_orthanc, start_orthanc
from tests.support.server import AppServer, copy_app, start_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MODEL, LABEL = "ct", "lesion"
LATE = 8
"""Slices that come last; they lie below the others, so that each of those gets another number."""


class _From(HTTPAdapter):
    """Of another address of this machine."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, source_address=(self._address, 0))


@dataclass(frozen=True)
class Downloader:
    """A viewer on another machine that opens what the server has, as 3D Slicer does."""

    url: str
    series: str
    session: requests.Session = field(default_factory=requests.Session)

    def load(self, folder: Path) -> tuple[int, ...]:
        """Voxels of the volume that it then shows."""
        answer = self.session.get(f"{self.url}/datastore/image", params={"image": self.series}, timeout=120)
        assert answer.status_code == 200, answer.text
        (folder / "image.nii.gz").write_bytes(answer.content)
        return tuple(nib.load(folder / "image.nii.gz").shape)

    def click(self, *clicks: Voxel, **params: Any) -> requests.Response:
        return self.session.post(
            f"{self.url}/infer/{MODEL}",
            params={"image": self.series, "output": "json"},
            files={"params": (None, json.dumps({"foreground": clicks, **params}))},
            timeout=120,
        )

    def series_hash(self) -> str:
        info = self.session.get(f"{self.url}/datastore/image/info", params={"image": self.series}, timeout=120)
        return str(info.json()["series_hash"])


@pytest.fixture(scope="module")
def study() -> Study:
    return make_scene("oblique")


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    require(missing_orthanc())
    with start_orthanc(tmp_path_factory.mktemp("changed_orthanc")) as running:
        yield running


@pytest.fixture(scope="module")
def server(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    folder = tmp_path_factory.mktemp("changed")
    with start_server(copy_app(folder / "app"), pacs.dicomweb_url, folder) as running:
        yield running


def click_and_run(ohif: Ohif, study: Study, solid: Any) -> Any:
    ohif.click(voxel_centre(study.geometry, solid.centre), "mpr-axial")
    return ohif.run(MODEL)


def open_in(ohif: Ohif, study: Study) -> None:
    ohif.open_study(study.study_uid)
    ohif.connect()
    ohif.choose_model(MODEL)
    ohif.choose_label(LABEL)


def lower(voxel: Voxel) -> Voxel:
    """As it counts while the late slices are missing."""
    i, j, k = voxel
    return i, j, k - LATE


def test_no_viewer_works_on_slices_that_it_does_not_show(
    study: Study, pacs: Orthanc, server: AppServer, tmp_path: Path
) -> None:
    require(missing_browser())
    slices = sorted(study.instances, key=lambda one: -int(one.InstanceNumber))
    large, small = (study.geometry.voxel(solid.centre) for solid in (LARGE, SMALL))
    pacs.store(slices[LATE:])
    other = Downloader(server.url, study.series_uid)
    other.session.mount("http://", _From("127.0.0.2"))
    with open_ohif(server.url) as ohif:
        open_in(ohif, study)
        first = click_and_run(ohif, study, LARGE)
        assert tuple(first.params["foreground"][0]) == lower(large)
        assert other.load(tmp_path) == (*study.image.shape[:2], study.image.shape[2] - LATE)
        answer = other.click(lower(small))
        assert answer.status_code == 200, answer.text
        old = answer.json()["series_hash"]
        assert old == other.series_hash()

        pacs.store(slices[:LATE])
        assert other.series_hash() != old  # from here on the server knows
        for _ in range(2):
            with pytest.raises(OhifError, match="409.*Open the study again"):
                ohif.run(MODEL)
            refused = other.click(lower(small), lower(large))
            assert refused.status_code == 409, refused.text
        ohif.clear_points()
        with pytest.raises(OhifError, match="409.*Open the study again"):
            click_and_run(ohif, study, SMALL)

        open_in(ohif, study)
        again = click_and_run(ohif, study, LARGE)
        assert tuple(again.params["foreground"][0]) == large
        check_place(again.label_map.values, LARGE.inside(study.geometry), study.geometry, [large])
        # The other still shows the old slices, until it loads them anew.
        assert other.click(lower(large)).status_code == 409
        assert other.click(small, series_hash=old).status_code == 409
        assert other.load(tmp_path) == study.image.shape
        answer = other.click(small)
        assert answer.status_code == 200, answer.text
        assert answer.json()["series_hash"] == other.series_hash()
        np.testing.assert_array_equal(answer.json()["clicks"], [small])
        assert ohif.errors == []
