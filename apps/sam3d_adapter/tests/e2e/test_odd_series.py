"""Series in a real PACS that are no volume, and answers as DICOM SEG, through a real server."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pydicom
import pytest
import requests
from pydicom.uid import generate_uid

from tests.e2e.checks import read_mask
from tests.e2e.conftest import require
from tests.support.dicom_study import Study
from tests.support.noise_site import copy_app
from tests.support.odd_series import CLICK, ODD, copied, make_series, multi_frame
from tests.support.orthanc import Orthanc, missing_orthanc, start_orthanc
from tests.support.server import AppServer, start_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# A PACS takes instances apart by their series, so "two series" is two there.
NAMES = sorted(set(ODD) - {"two series"})


@dataclass(frozen=True)
class Site:
    """A server before a PACS, and the series in it by name."""

    server: AppServer
    series: dict[str, str]
    pacs: Orthanc

    def infer(self, name: str, output: str = "json", **params: object) -> requests.Response:
        files = {"params": (None, json.dumps({"foreground": [CLICK], **params}))}
        query = {"image": self.series.get(name, name), "output": output}
        return requests.post(f"{self.server.url}/infer/test", params=query, files=files, timeout=120)


def renamed(instances: list) -> list:
    """The same as a series of its own: two series of one UID would be one to a PACS."""
    series, study = generate_uid(), generate_uid()
    found = []
    for instance in instances:
        other = copied(instance)
        other.SeriesInstanceUID, other.StudyInstanceUID = series, study
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        found.append(other)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require(missing_orthanc())
    folder = tmp_path_factory.mktemp("odd")
    study: Study = make_series()
    all_series = {"regular": list(study.instances), "frames": [multi_frame(study)]}
    all_series |= {name: ODD[name][0](study) for name in NAMES}
    uids = {}
    with start_orthanc(folder / "orthanc") as pacs:
        for name, instances in all_series.items():
            stored = renamed(instances)
            pacs.store(stored)
            uids[name] = str(stored[0].SeriesInstanceUID)
        with start_server(copy_app(folder), pacs.dicomweb_url, folder / "server", conf={"models": "test"}) as server:
            yield Site(server, uids, pacs)


def test_regular_series_are_answered(site: Site) -> None:
    for name in ("regular", "frames"):
        answer = site.infer(name)
        assert answer.status_code == 200, answer.text
        assert answer.json()["clicks"] == [CLICK]


@pytest.mark.parametrize("name", NAMES)
def test_odd_series_are_refused(site: Site, name: str) -> None:
    _, words = ODD[name]
    for _ in range(2):  # fetched, and from the cache
        answer = site.infer(name)
        assert answer.status_code == 422, answer.text
        assert all(word in answer.json()["detail"] for word in words), answer.text
    assert site.infer("regular").status_code == 200


def test_series_is_used_while_it_arrives(site: Site) -> None:
    study = make_series()
    slices = sorted(renamed(list(study.instances)), key=lambda instance: float(instance.ImagePositionPatient[2]))
    uid = str(slices[0].SeriesInstanceUID)
    site.pacs.store(slices[3:5] + slices[6:])
    for _ in range(2):
        assert site.infer(uid).status_code == 422  # a gap
    site.pacs.store(slices[5:6])
    first = site.infer(uid, "image", foreground=[[16, 16, 5]])
    assert first.status_code == 200, first.text
    assert read_mask(first.content).values.shape == (32, 32, 13)
    site.pacs.store(slices[:3])
    # Whoever asks for the hash has the PACS asked.
    info = requests.get(f"{site.server.url}/datastore/image/info", params={"image": uid}, timeout=60).json()
    for _ in range(2):
        changed = site.infer(uid)
        assert changed.status_code == 409 and "Open the study again" in changed.json()["detail"], changed.text
    whole = site.infer(uid, "image", series_hash=info["series_hash"])
    assert whole.status_code == 200, whole.text
    mask = read_mask(whole.content)
    assert mask.values.shape == study.image.shape and mask.values[tuple(CLICK)]


def test_series_that_is_not_there(site: Site) -> None:
    for name in ("1.2.3.4", "../1.2", "nonsense"):
        assert site.infer(name).status_code == 404


def test_answer_as_dicom_seg(site: Site) -> None:
    info = [{"name": "lesion", "idx": 1}]
    answer = site.infer("regular", "dicom_seg", label_info=info)
    assert answer.status_code == 200, answer.text
    assert pydicom.dcmread(io.BytesIO(answer.content)).Modality == "SEG"
    # No mask is empty: the clicked voxel at least belongs to it.
    least = site.infer("regular", "dicom_seg", label_info=info, threshold=0.999)
    assert least.status_code == 200, least.text
    for bad in (None, [], "lesion", [1], [{"name": 3}]):
        refused = site.infer("regular", "dicom_seg", label_info=bad)
        assert refused.status_code == 422 and "label_info" in refused.json()["detail"]
