"""MONAI Label's own web application with this app in it, served by a thread of the tests: a request takes milliseconds.

The app's ``lib`` is the one the tests import (MONAI Label would import it once more), and everything it writes lies in
one folder.
"""

import contextlib
import hashlib
import json
import logging
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import uvicorn
from monailabel.endpoints.user.auth import RBAC

from lib.host.patches.endpoints import restore_endpoints
from lib.host.patches.web_app import restore_web_app
from lib.host.process.launch import LOOPBACK, free_port
from tests.support.noise_site import CLICK

# What an app may set for its process, which here is that of all tests.
_PROCESS_STATE = (
    (tempfile, "tempdir"),
    (tempfile, "NamedTemporaryFile"),
    (logging.Handler, "format"),
    (logging.root, "level"),
    (warnings, "showwarning"),
    (sys, "excepthook"),
    (threading, "excepthook"),
    (RBAC, "__call__"),
)


@dataclass(frozen=True)
class LiveApp:
    """What clients and attackers reach.

    Attributes:
        url: where it answers, without a slash at the end.
        folder: takes what it writes; ``tmp`` in it is the temporary folder.
        studies: folder of images.
    """

    url: str
    folder: Path
    studies: Path

    def infer(
        self,
        params: Any = None,
        *,
        image: str = "case_1",
        model: str = "test",
        output: str | None = "json",
        session_id: str = "",
        file: tuple[str, bytes] | None = None,
        label: tuple[str, bytes] | None = None,
    ) -> requests.Response:
        """One request.

        Args:
            params: sent as JSON; text is sent as it is.
            image: id.
            model: name of the task.
            output: as in MONAI Label; None for its default, a multipart answer.
            session_id: of an uploaded image.
            file: name and content of an image sent along.
            label: name and content of a label map sent along.
        """
        text = params if isinstance(params, str) else json.dumps(params if params is not None else {})
        query = {"image": image, "session_id": session_id, **({"output": output} if output else {})}
        files: dict[str, Any] = {"params": (None, text)}
        if file is not None:
            files["file"] = (*file, "application/octet-stream")
        if label is not None:
            files["label"] = (*label, "application/octet-stream")
        return requests.post(f"{self.url}/infer/{model}", params=query, files=files, timeout=120)

    def upload(self, name: str, content: bytes, click: list[int] | None = None, **more: Any) -> requests.Response:
        """One click on a file that is sent along, as MITK does it."""
        return self.infer({"foreground": [click or CLICK], **more}, image="", file=(name, content))

    def good_click(self) -> str:
        """sha256 of the mask for one good click."""
        answer = self.infer({"foreground": [CLICK]}, output="image")
        assert answer.status_code == 200, answer.text
        return hashlib.sha256(answer.content).hexdigest()

    def ask(self, method: str, address: str, **more: Any) -> requests.Response:
        """Any other request, its address sent as it is: clients that tidy it up would not send ``..``."""
        prepared = requests.Request(method, self.url, **more).prepare()
        prepared.url = self.url + address
        with requests.Session() as session:
            return session.send(prepared, timeout=120)

    def files(self) -> dict[str, bytes]:
        """What lies in the folder, by path; without temporary files and what the server notes of its own accord."""
        own = ("tmp/", "app/logs/", "studies/.lock")
        found = {str(path.relative_to(self.folder)): path for path in self.folder.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in found.items() if not name.startswith(own)}

    def left_behind(self) -> list[str]:
        """Names of what stays in the temporary folder: MONAI Label removes an answer when it was sent."""
        for _ in range(100):
            if not (left := sorted(path.name for path in Path(tempfile.gettempdir()).iterdir())):
                break
            time.sleep(0.05)
        return left


def check_refusal(live: LiveApp, answer: requests.Response, status: int, words: tuple[str, ...] = ()) -> None:
    """A refusal in words a person can use, that reveals no folder of the server."""
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert isinstance(detail, str) and 20 < len(detail) < 1000, detail
    assert str(live.folder) not in detail and "Traceback" not in detail
    for word in words:
        assert word in detail, detail


@contextlib.contextmanager
def live_app(app_dir: Path, studies: Path, folder: Path, *, conf: Mapping[str, str] | None = None) -> Iterator[LiveApp]:
    """The application for the time of the ``with`` block; one at a time.

    Args:
        app_dir: the app, as a copy.
        studies: folder of images.
        folder: takes temporary files and sessions.
        conf: the app's settings.
    """
    from monailabel.config import settings
    from monailabel.interfaces.utils.app import clear_cache

    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    values = {
        "MONAI_LABEL_APP_DIR": str(app_dir),
        "MONAI_LABEL_STUDIES": str(studies),
        "MONAI_LABEL_APP_CONF": dict(conf or {}),
        "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
        "MONAI_LABEL_TRACKING_ENABLED": False,
        "MONAI_LABEL_AUTO_UPDATE_SCORING": False,
    }
    before = {name: getattr(settings, name) for name in values}
    reload_before = os.environ.get("MONAI_LABEL_RELOAD_APP_LIB")
    from monailabel.app import app

    clear_cache()
    state = [(thing, name, getattr(thing, name)) for thing, name in _PROCESS_STATE]
    factory = logging.getLogRecordFactory()
    try:
        os.environ["MONAI_LABEL_RELOAD_APP_LIB"] = "false"
        tempfile.tempdir = str(folder / "tmp")
        for name, value in values.items():
            setattr(settings, name, value)
        with _serving(app) as url:
            yield LiveApp(url, folder, studies)
    finally:
        clear_cache()
        restore_endpoints()
        restore_web_app()
        logging.setLogRecordFactory(factory)
        for thing, name, was in state:
            setattr(thing, name, was)
        for name, value in before.items():
            setattr(settings, name, value)
        os.environ.pop("MONAI_LABEL_RELOAD_APP_LIB")
        if reload_before is not None:
            os.environ["MONAI_LABEL_RELOAD_APP_LIB"] = reload_before


@contextlib.contextmanager
def _serving(app: Any) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, name="live-app", daemon=True)
    thread.start()
    began = time.monotonic()
    while not server.started:
        assert thread.is_alive(), "the application ended while it started"
        assert time.monotonic() - began < 120, "the application did not start in time"
        time.sleep(0.02)
    try:
        yield f"http://{LOOPBACK}:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
