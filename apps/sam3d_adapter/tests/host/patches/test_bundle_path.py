"""Background tasks never take a folder of code from the caller."""

from types import SimpleNamespace

import pytest
from monailabel.utils.async_tasks import task as host_task

from lib.host.patches.bundle_path import own_bundle_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Records the requests of background tasks instead of starting them."""
    requests: list[dict] = []
    monkeypatch.setattr(host_task, "run_background_task", lambda request, method: requests.append(request))
    return requests


def start(monkeypatch: pytest.MonkeyPatch, bundle_path: object) -> None:
    app = SimpleNamespace(info=dict, bundle_path=lambda model: bundle_path)
    monkeypatch.setattr(host_task, "app_instance", lambda: app)
    host_task.AsyncTask.run("train", params={"model": "ct", "bundle_path": "/tmp/planted"})


def test_own_folder_replaces_the_callers(monkeypatch: pytest.MonkeyPatch, started: list) -> None:
    start(monkeypatch, own_bundle_path("/srv/app"))
    assert started[0]["bundle_path"] == "/srv/app"


def test_the_host_still_needs_it(monkeypatch: pytest.MonkeyPatch, started: list) -> None:
    """What the base class answers leaves the caller's path standing; when this fails, the patch can go."""
    start(monkeypatch, None)
    assert started[0]["bundle_path"] == "/tmp/planted"
