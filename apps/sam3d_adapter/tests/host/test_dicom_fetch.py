"""Series of a PACS: fetched whole, checked, and told apart from a PACS that fails."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore

from lib.host.dicom_fetch import fetch_series
from lib.host.image_access import admit_image
from tests.support.dicom_study import Study
from tests.support.odd_series import ODD, make_series
from tests.support.pacs import Pacs, open_store

# ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning")


@pytest.fixture(scope="module")
def study() -> Study:
    return make_series()


def refusal(store: DICOMWebDatastore, image: str) -> HTTPException:
    with pytest.raises(HTTPException) as caught:
        fetch_series(image, store)
    return caught.value


def test_regular_series_is_fetched_and_converted(tmp_path: Path, study: Study) -> None:
    store = open_store(Pacs(list(study.instances)), tmp_path)
    fetch_series(study.series_uid, store)
    assert Path(store.get_image_uri(study.series_uid)).is_file()
    assert admit_image({"image": study.series_uid}, store, None)["image"] == study.series_uid


@pytest.mark.parametrize("name", sorted(set(ODD) - {"two series"}))
def test_odd_series_are_refused_again_and_again(tmp_path: Path, study: Study, name: str) -> None:
    make, words = ODD[name]
    instances = make(study)
    store = open_store(Pacs(instances), tmp_path)
    for _ in range(2):
        error = refusal(store, str(instances[0].SeriesInstanceUID))
        assert error.status_code == 422
        assert all(word in error.detail for word in words), error.detail


def test_transfer_that_broke_off_is_repeated(tmp_path: Path, study: Study) -> None:
    """MONAI Label alone would take the half for the whole ever after."""

    def half(instances: list) -> Any:
        yield from instances[:8]
        raise requests.ConnectionError("reset")

    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    pacs.send = half
    assert refusal(store, study.series_uid).status_code == 503
    pacs.send = list
    fetch_series(study.series_uid, store)
    assert np.asarray(nib.load(store.get_image_uri(study.series_uid)).dataobj).shape == study.image.shape


def test_host_alone_takes_the_half_for_the_whole(tmp_path: Path, study: Study) -> None:
    def half(instances: list) -> Any:
        yield from instances[:8]
        raise requests.ConnectionError("reset")

    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    pacs.send = half
    with pytest.raises(requests.ConnectionError):
        store.get_image_uri(study.series_uid)
    pacs.send = list
    assert np.asarray(nib.load(store.get_image_uri(study.series_uid)).dataobj).shape[2] == 8


def test_host_alone_closes_the_gap(tmp_path: Path, study: Study) -> None:
    instances = ODD["missing slice"][0](study)
    store = open_store(Pacs(instances), tmp_path)
    assert Path(store.get_image_uri(study.series_uid)).is_file()  # 15 slices, as if 2 mm apart or a little more


@pytest.mark.parametrize(
    ("error", "status"),
    [(requests.ConnectionError("refused"), 503), (requests.HTTPError("500"), 503), (OSError(28, "full"), 503)],
)
def test_pacs_or_disk_that_fails(tmp_path: Path, study: Study, error: Exception, status: int) -> None:
    def fail(instances: list) -> list:
        raise error

    pacs = Pacs(list(study.instances))
    pacs.send = fail
    found = refusal(open_store(pacs, tmp_path), study.series_uid)
    assert found.status_code == status and "try again" in found.detail.lower()


def test_unknown_series(tmp_path: Path, study: Study) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    assert refusal(store, "1.2.3").status_code == 404
    for image in ("1.2.840.2", "../1.2", "1.2/../../x", "case_1"):
        with pytest.raises(HTTPException) as caught:
            admit_image({"image": image}, store, None)
        assert caught.value.status_code == 404
    assert set(pacs.asked) == {"list", "1.2.3", "1.2.840.2"}  # no path ever reaches the PACS


def test_new_series_is_asked_for_by_its_uid(tmp_path: Path, study: Study) -> None:
    pacs = Pacs(list(study.instances))
    store = open_store(pacs, tmp_path)
    store.list_images = lambda: []  # as long as the host's list is kept
    assert admit_image({"image": study.series_uid}, store, None)["image"] == study.series_uid
