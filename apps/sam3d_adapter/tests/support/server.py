"""The real MONAI Label server for tests: a copy of the app in a temporary folder, its own process, its own caches."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import requests
from monailabel.client import MONAILabelClient

from lib.host.process.launch import RunningServer, running_server

APP_DIR = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class AppServer:
    """A server that answers; the process is ended by ``start_server``.

    Attributes:
        running: URL, process and log of the server.
        app_dir: the copy of the app it serves.
        folder: everything the server and its client write lies here.
    """

    running: RunningServer
    app_dir: Path
    folder: Path

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return self.running.url

    @property
    def log_path(self) -> Path:
        """Everything the server printed."""
        return self.running.log_path

    @cached_property
    def client(self) -> MONAILabelClient:
        """MONAI Label's own client; the files it fetches lie in ``folder / "client"``."""
        tmpdir = self.folder / "client"
        tmpdir.mkdir(exist_ok=True)
        return MONAILabelClient(self.url, tmpdir=str(tmpdir))

    def info(self) -> dict[str, Any]:
        """What ``GET /info/`` answers."""
        response = requests.get(f"{self.url}/info/", timeout=60)
        response.raise_for_status()
        return dict(response.json())


def copy_app(
    folder: Path,
    *,
    source: Path = APP_DIR,
    presets: Mapping[str, str] | None = None,
    weights: Mapping[str, Path] | None = None,
    keep_presets: bool = True,
) -> Path:
    """Copy what a server needs of an app; MONAI Label writes into the folder that it serves.

    Args:
        folder: does not exist yet.
        source: the app.
        presets: YAML texts by preset name, written over or beside the app's own.
        weights: files by the name they get in ``weights/``.
        keep_presets: whether the app's own presets are copied.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True)
    shutil.copy(source / "main.py", folder)
    for name in ("lib", "ohif", "weights", *(("configs",) if keep_presets else ())):
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("configs", "weights"):
        (folder / name).mkdir(exist_ok=True)
    for name, text in (presets or {}).items():
        (folder / "configs" / f"{name}.yaml").write_text(text, encoding="utf-8")
    for name, path in (weights or {}).items():
        shutil.copy(path, folder / "weights" / name)
    return folder


@contextlib.contextmanager
def start_server(
    app_dir: Path,
    studies: Path | str,
    folder: Path,
    *,
    conf: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
) -> Iterator[AppServer]:
    """A server for the time of the ``with`` block, on the CPU, on a free port of the loopback device.

    Args:
        app_dir: folder to serve, as made by ``copy_app``.
        studies: folder of images, or the URL of a DICOMweb server.
        folder: takes log and caches.
        conf: the app's settings, ``--conf key value``.
        env: environment variables on top of those set here.
        timeout_s: how long it may take to answer, in seconds.

    Raises:
        LaunchError: it ended or did not answer in time; the message holds the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder / "server.log"
    environment = {**quiet_environment(folder), **(env or {})}
    with running_server(
        app_dir, studies, log_path=log_path, conf=conf, env=environment, timeout_s=timeout_s
    ) as running:
        yield AppServer(running, app_dir, folder)


def quiet_environment(folder: Path) -> dict[str, str]:
    """Caches below ``folder``, and nothing that needs the network or a GPU."""
    return {
        "CUDA_VISIBLE_DEVICES": "",
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
        # Default: a file store for MLflow, which its newer versions refuse.
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(folder / "dicom_cache"),
        # Seconds. Ours is half a minute, within which a new series would stay unseen.
        "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": "1",
        "MPLCONFIGDIR": str(folder / "matplotlib"),
    }
