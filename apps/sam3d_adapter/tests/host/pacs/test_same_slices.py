"""Viewers at work on a series that has changed, each from an address of its own, against the real application."""

import gzip
import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.utils.app import app_instance, apps
from pydicom.dataset import Dataset

from lib.host.pacs import dicom_fetch
from lib.host.pacs.dicom_fetch import MAX_PAUSE_S, MIN_PAUSE_S
from lib.host.pacs.lists import with_fresh_lists
from tests.support.dicom_study import Study
from tests.support.hostile_images import nifti, packed, voxels
from tests.support.live_app import LiveApp, check_refusal
from tests.support.odd_series import copied
from tests.support.pacs import Pacs, open_store

pytestmark = [
    pytest.mark.timeout(300),
    # ITK's wrapping raises it on import, on every Python from 3.11; made an error there, it ends the process.
    pytest.mark.filterwarnings("ignore:builtin type [sS]wig:DeprecationWarning"),
]

CLICK, SECOND, THIRD = [16, 16, 6], [17, 15, 6], [15, 17, 7]
HOUR = 3600


class HttpPacs(Pacs):
    """Which answers viewers over HTTP, too: with the metadata of its series, packed or not."""

    def __init__(self, instances: list) -> None:
        super().__init__(instances)
        self.is_packed, self.garbled = True, b""
        pacs = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = pacs.garbled or json.dumps([_header(one) for one in pacs.instances]).encode()
                self.send_response(200)
                if pacs.is_packed:
                    content = gzip.compress(content)
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/dicom-web"

    def search_for_series(self, search_filters: dict[str, Any] | None = None) -> list[dict]:
        return [] if (search_filters or {}).get("Modality") == "SEG" else super().search_for_series(search_filters)


def _header(instance: Dataset) -> dict[str, Any]:
    """As a PACS sends it; a sequence of it names other instances."""
    found = Dataset()
    for tag in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(found, tag, instance.get(tag))
    other = Dataset()
    other.SOPInstanceUID = other.SeriesInstanceUID = "1.2.3"
    found.ReferencedSeriesSequence = [other]
    return found.to_json_dict()


@dataclass(frozen=True)
class Viewer:
    """A client at an address; the server trusts the header, as of a reverse proxy on its machine."""

    live: LiveApp
    study: Study
    address: str

    def click(self, *clicks: list[int], **params: Any) -> requests.Response:
        return self.ask(
            "POST",
            f"/infer/test?image={self.study.series_uid}&output=json",
            files={"params": (None, json.dumps({"foreground": clicks, **params}))},
        )

    def load(self, op: str = "wado/", path: str = "studies/{study}/series/{series}/metadata") -> None:
        uids = {"study": self.study.study_uid, "series": self.study.series_uid}
        answer = self.ask("GET", f"/proxy/dicom/{op}{path.format(**uids)}")
        assert answer.status_code == 200

    def info(self) -> dict[str, Any]:
        return dict(self.ask("GET", f"/datastore/image/info?image={self.study.series_uid}").json())

    def download(self, method: str = "GET") -> requests.Response:
        return self.ask(method, f"/datastore/image?image={self.study.series_uid}")

    def next_sample(self) -> dict[str, Any]:
        return dict(self.ask("POST", "/activelearning/shuffled", json={}).json())

    def ask(self, method: str, address: str, **more: Any) -> requests.Response:
        return self.live.ask(method, address, headers={"X-Forwarded-For": self.address}, **more)


@pytest.fixture
def pacs(live: LiveApp, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpPacs]:
    """The PACS behind the application, without the first three slices."""
    found = HttpPacs(by_height(study)[3:])
    thread = threading.Thread(target=found.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr(app_instance(), "_datastore", with_fresh_lists(open_store(found, tmp_path), ["CT"], []))
    # MONAI Label would make another app for another address.
    monkeypatch.setitem(apps, settings.MONAI_LABEL_APP_DIR + found.url, app_instance())
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", found.url)
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join(10)
    # A server of its own process sweeps up what the host leaves.
    for left in Path(tempfile.gettempdir()).iterdir():
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


@pytest.fixture
def arrive(pacs: HttpPacs, study: Study, clock: list[float]) -> Callable[[], None]:
    """Lets the other slices reach the PACS, and time go by until it is asked about them."""

    def change() -> None:
        pacs.instances = by_height(study)
        clock[0] += MAX_PAUSE_S + 1

    return change


@pytest.fixture
def viewers(live: LiveApp, study: Study, pacs: HttpPacs) -> list[Viewer]:
    return [Viewer(live, study, f"10.0.0.{number}") for number in range(3)]


def by_height(study: Study) -> list:
    return sorted(study.instances, key=lambda instance: float(instance.ImagePositionPatient[2]))


def hash_of(pacs: HttpPacs) -> str:
    """As the README tells clients to work it out."""
    uids = sorted(str(instance.SOPInstanceUID) for instance in pacs.instances)
    return hashlib.sha256("\n".join(uids).encode()).hexdigest()


def answered(response: requests.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return dict(response.json())


def refused(viewer: Viewer, response: requests.Response, *words: str) -> None:
    check_refusal(viewer.live, response, 409, ("Open the study again", *words))


def test_every_viewer_on_the_old_slices_is_refused_each_time(viewers: list[Viewer], arrive: Callable[[], None]) -> None:
    for viewer in viewers:
        viewer.load()
        answered(viewer.click(CLICK))
    arrive()
    for _ in range(2):
        for viewer in viewers:
            refused(viewer, viewer.click(CLICK, SECOND), "when it was loaded from here")
            refused(viewer, viewer.click(THIRD), "when it was loaded from here")


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(Viewer.load, id="OHIF"),
        pytest.param(lambda viewer: viewer.load("qido/"), id="OHIF of old"),
        pytest.param(lambda viewer: viewer.load("", "studies/{study}/metadata"), id="a study"),
        pytest.param(Viewer.download, id="Slicer"),
    ],
)
def test_viewer_that_loads_the_series_anew_is_answered_and_it_alone(
    viewers: list[Viewer], arrive: Callable[[], None], study: Study, load: Callable[[Viewer], Any]
) -> None:
    old, again, new = viewers
    for viewer in (old, again):
        load(viewer)
        answered(viewer.click(CLICK))
    arrive()
    refused(again, again.click(CLICK, SECOND))
    load(again)
    load(new)
    for viewer in (again, new):
        assert answered(viewer.click(THIRD))["series_hash"] == answered(viewer.click(THIRD, SECOND))["series_hash"]
    for clicks in ([CLICK, SECOND], [THIRD], [[3, 4, 5]]):
        refused(old, old.click(*clicks))


@pytest.mark.parametrize("path", ["series/{series}/metadata", "series/{series}/instances/1.2/metadata"])
@pytest.mark.parametrize("garbled", [b"", b"<xml/>", b"[{}]", b"null", b"\x1f\x8b"])
def test_what_is_no_list_of_slices_is_no_loading(
    viewers: list[Viewer], pacs: HttpPacs, arrive: Callable[[], None], path: str, garbled: bytes
) -> None:
    viewer = viewers[0]
    viewer.load()
    answered(viewer.click(CLICK))
    arrive()
    pacs.is_packed, pacs.garbled = False, garbled
    viewer.load(path="studies/{study}/" + path)
    viewer.download("HEAD")
    viewer.info()
    viewer.next_sample()
    if garbled or "instances" in path:
        refused(viewer, viewer.click(SECOND))
    else:
        answered(viewer.click(SECOND))


def test_viewer_that_loads_more_than_the_copy_holds_is_answered_on_it(
    viewers: list[Viewer], pacs: HttpPacs, study: Study, clock: list[float]
) -> None:
    """The copy here is compared at pauses, in which its mask would lie three slices off for the new viewer."""
    old, new, script = viewers
    old.load()
    answered(old.click(CLICK))
    pacs.instances = by_height(study)
    clock[0] += MIN_PAUSE_S / 2
    assert answered(old.click(CLICK))["series_hash"] != hash_of(pacs)  # nobody knows yet, and it has those slices
    new.load()
    assert answered(new.click(SECOND))["series_hash"] == hash_of(pacs)
    refused(old, old.click(THIRD))
    pacs.instances = by_height(study)[1:]
    assert answered(script.click(SECOND, series_hash=hash_of(pacs)))["series_hash"] == hash_of(pacs)


def test_series_hash_decides_wherever_it_comes_from(
    viewers: list[Viewer], pacs: HttpPacs, arrive: Callable[[], None]
) -> None:
    script, other = viewers[:2]
    old = script.info()["series_hash"]
    assert old == hash_of(pacs)
    assert answered(script.click(CLICK, series_hash=old))["series_hash"] == old
    arrive()
    for viewer in (script, other, script):
        refused(viewer, viewer.click(CLICK, SECOND, series_hash=old), old, hash_of(pacs), "series_hash")
    new = script.info()["series_hash"]
    assert new == hash_of(pacs) != old
    for viewer in (script, other):
        answer = answered(viewer.click(CLICK, SECOND, series_hash=new))
        assert answer["series_hash"] == new and not any("Unknown" in text for text in answer["warnings"])


def test_series_hash_is_said_where_a_series_is_loaded(viewers: list[Viewer], pacs: HttpPacs, study: Study) -> None:
    viewer = viewers[0]
    for _ in range(2):
        sample = viewer.next_sample()
        content = viewer.download().content
        assert sample["series_hash"] == hash_of(pacs)
        assert sample["checksum"] == f"SHA256:{hashlib.sha256(content).hexdigest()}"  # 3D Slicer goes by it
        pacs.instances = by_height(study)
    info = viewer.info()
    assert info["series_hash"] == hash_of(pacs) and info["SeriesInstanceUID"]
    pacs.instances = pacs.instances[:5] + pacs.instances[6:]
    assert viewer.info()["series_hash"] is None  # a gap: it cannot be clicked on
    assert viewer.next_sample()["series_hash"] is None


@pytest.mark.parametrize("sent", [3, ["a"], "abc", "A" * 64, "g" * 64, "0" * 63])
def test_what_is_no_series_hash(viewers: list[Viewer], sent: object) -> None:
    check_refusal(viewers[0].live, viewers[0].click(CLICK, series_hash=sent), 422, ("series_hash", "64"))


@pytest.mark.parametrize("sent", [None, ""])
def test_emptied_series_hash_is_none(viewers: list[Viewer], arrive: Callable[[], None], sent: object) -> None:
    viewers[0].load()
    answered(viewers[0].click(CLICK, series_hash=sent))
    arrive()
    refused(viewers[0], viewers[0].click(SECOND, series_hash=sent))


def test_images_that_are_no_series_have_none(live: LiveApp) -> None:
    uploaded = ("a.nii.gz", packed(nifti(voxels())))
    assert answered(live.infer({"foreground": [CLICK], "series_hash": None}))["series_hash"] is None
    assert "series_hash" not in live.ask("GET", "/datastore/image/info?image=case_1").json()
    for more in ({"image": "case_1"}, {"image": "", "file": uploaded}):
        answer = live.infer({"foreground": [CLICK], "series_hash": "0" * 64}, **more)
        check_refusal(live, answer, 422, ("series_hash", "no series"))


def test_dialogue_of_another_window_at_the_same_address_is_recognised_by_its_clicks(
    viewers: list[Viewer], arrive: Callable[[], None]
) -> None:
    """As two windows have one address, and all viewers behind a reverse proxy that hides theirs."""
    viewer = viewers[0]
    viewer.load()
    answered(viewer.click(CLICK))
    arrive()
    refused(viewer, viewer.click(CLICK, SECOND))
    viewer.load()
    answered(viewer.click(THIRD))
    for params in (
        {"foreground": [CLICK, SECOND]},
        {"foreground": json.dumps([SECOND, CLICK])},
        {"foreground": [], "lesion": [CLICK, SECOND]},
        {"foreground": [THIRD], "background": [CLICK]},
        {"foreground": {"lesion": [[float(index) for index in CLICK]]}},
        {"foreground": [], "points": [CLICK], "point_labels": [1]},
    ):
        refused(viewer, viewer.click(**params), "some of these clicks")
    answered(viewer.click(THIRD, SECOND))
    answered(viewer.click(CLICK, series_hash=viewer.info()["series_hash"]))


def test_viewer_that_loads_elsewhere_is_refused_for_an_hour(
    viewers: list[Viewer], arrive: Callable[[], None], clock: list[float]
) -> None:
    """As one that has the PACS's own address: it may have the slices of before, whether it has clicked or not."""
    old, silent, new = viewers
    answered(old.click(CLICK))
    arrive()
    for viewer in (old, silent, old, silent):
        refused(viewer, viewer.click(SECOND), "used here last", "60 min", "series_hash")
    clock[0] += HOUR - 61
    refused(silent, silent.click(SECOND), " 2 min")
    new.load()
    answered(new.click(SECOND))
    clock[0] += 61
    for viewer in (silent, old):
        answered(viewer.click(SECOND))
        refused(viewer, viewer.click(CLICK, SECOND), "some of these clicks")


def test_viewer_that_was_open_when_the_server_started_anew(
    viewers: list[Viewer], arrive: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(viewers[0].click(CLICK))
    arrive()
    monkeypatch.setattr(dicom_fetch, "_series", {})  # a new process knows nothing of the series in the cache
    for viewer in viewers:
        refused(viewer, viewer.click(SECOND), "used here last")
    viewers[0].load()
    answered(viewers[0].click(SECOND))


def test_same_slices_fetched_again_are_no_change(viewers: list[Viewer], pacs: HttpPacs, clock: list[float]) -> None:
    answered(viewers[0].click(CLICK))
    store: DICOMWebDatastore = app_instance().datastore()
    shutil.rmtree(Path(store._datastore.image_path()) / viewers[0].study.series_uid)
    pacs.instances = [copied(instance) for instance in reversed(pacs.instances)]
    clock[0] += MAX_PAUSE_S + 1
    assert answered(viewers[0].click(CLICK, SECOND))["series_hash"] == hash_of(pacs)
    assert pacs.asked.count("slices") == 2


def test_series_that_was_never_used_has_not_changed(
    viewers: list[Viewer], pacs: HttpPacs, study: Study, clock: list[float]
) -> None:
    whole = by_height(study)
    pacs.instances = whole[:5] + whole[6:]
    assert viewers[0].click(CLICK).status_code == 422
    pacs.instances = whole
    answered(viewers[0].click(CLICK))
