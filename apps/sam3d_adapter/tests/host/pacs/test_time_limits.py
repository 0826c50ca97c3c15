"""A PACS that takes connections and says nothing, asked by the real DICOMweb client."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from main import Sam3dAdapterApp
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX, DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from requests.adapters import HTTPAdapter

from lib.host.pacs import time_limits
from lib.host.pacs.time_limits import ATTEMPTS, with_time_limits
from tests.support.pacs import open_store


@dataclass(frozen=True)
class SilentPacs:
    """Where it listens, and the connections that it took."""

    url: str
    taken: list[socket.socket] = field(default_factory=list)


@pytest.fixture
def pacs() -> Iterator[SilentPacs]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = SilentPacs(f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web")

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    silent.taken.append(listener.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield silent
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    for connection in silent.taken:
        connection.close()


@pytest.fixture
def store(pacs: SilentPacs, tmp_path: Path) -> DICOMWebDatastore:
    return open_store(DICOMwebClientX(url=pacs.url), tmp_path)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.search_for_instances("1.2", "1.3"),
        lambda client: client.retrieve_series("1.2", "1.3"),
        lambda client: client._http_post(client.base_url, b"x", {}),
    ],
    ids=["list", "fetch", "store"],
)
def test_silent_pacs_is_not_waited_for_without_end(
    pacs: SilentPacs, store: DICOMWebDatastore, monkeypatch: pytest.MonkeyPatch, ask: Any
) -> None:
    monkeypatch.setattr(time_limits, "READ_S", 0.1)
    with_time_limits(store)
    with pytest.raises(requests.ReadTimeout):
        ask(store._client)
    assert len(pacs.taken) == ATTEMPTS


def test_app_sets_the_limits(pacs: SilentPacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "READ_S", 0.1)
    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "cache"))
    # itkimage2segimage lies beside Python.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    # What with_fresh_lists leaves for background tasks.
    for name in ("MONAI_LABEL_DICOMWEB_SEARCH_FILTER", "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY"):
        monkeypatch.setenv(name, "")
    app = object.__new__(Sam3dAdapterApp)
    app.studies, app.app_dir, app._config = pacs.url, str(tmp_path), SimpleNamespace(presets={})
    app.auditor, app.workflow = SimpleNamespace(record_label=None), SimpleNamespace(note_sent=lambda *_: None)
    store = app.init_datastore()
    store._observer.stop()
    with pytest.raises(requests.ReadTimeout):
        store._client.search_for_series()


def test_limit_of_a_session_of_its_own_stays(
    pacs: SilentPacs, store: DICOMWebDatastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that for Google's cloud has one."""
    with_time_limits(store)
    with pytest.raises(requests.ReadTimeout):
        store._client._session.get(pacs.url, timeout=0.1)


def test_host_alone_waits_without_end(store: DICOMWebDatastore, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []

    def send(_: HTTPAdapter, request: object, **options: Any) -> None:
        limits.append(options["timeout"])
        raise requests.ConnectionError

    monkeypatch.setattr(HTTPAdapter, "send", send)
    store._client.set_http_retry_params(wait_exponential_multiplier=1)
    with pytest.raises(requests.ConnectionError):
        store._client.search_for_instances("1.2", "1.3")
    assert limits == [None] * 5


def test_folder_of_images_stays_as_it_is(tmp_path: Path) -> None:
    store = LocalDatastore(str(tmp_path), auto_reload=False)
    before = dict(vars(store))
    assert with_time_limits(store) is store and vars(store) == before
