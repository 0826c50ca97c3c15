"""Orthanc as the PACS of a test: HTTP and DICOMweb on a free port, its storage in a temporary folder."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset

from lib.host.process.launch import LOOPBACK, free_port, stop, wait_for_answer

# Debian puts the binary where only root's PATH looks.
_BINARY_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
_PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")


@dataclass(frozen=True)
class Orthanc:
    """A PACS that answers.

    Attributes:
        url: of Orthanc's own REST interface, without a slash at the end.
    """

    url: str

    @property
    def dicomweb_url(self) -> str:
        """Root of DICOMweb, as MONAI Label wants it for ``--studies``."""
        return f"{self.url}/dicom-web"

    def store(self, datasets: Sequence[Dataset]) -> None:
        """Send instances by STOW-RS.

        Raises:
            RuntimeError: the PACS did not take all of them.
        """
        answer = DICOMwebClient(self.dicomweb_url).store_instances(datasets)
        taken = len(answer.get("ReferencedSOPSequence", ()))
        if taken != len(datasets):
            raise RuntimeError(f"Orthanc took {taken} of {len(datasets)} instances: {answer}")

    def series(self, modality: str | None = None) -> list[dict[str, Any]]:
        """Orthanc's descriptions of the series it holds."""
        response = requests.get(f"{self.url}/series", params={"expand": ""}, timeout=30)
        response.raise_for_status()
        found = list(response.json())
        return [one for one in found if modality in (None, one["MainDicomTags"].get("Modality"))]


def missing_orthanc() -> str | None:
    """Why Orthanc cannot be started here, or None."""
    if _binary() is None:
        return "Orthanc is not installed (Debian: apt install orthanc)"
    if _plugin() is None:
        return "Orthanc's DICOMweb plugin is not installed (Debian: apt install orthanc-dicomweb)"
    return None


@contextlib.contextmanager
def start_orthanc(folder: Path, *, port: int | None = None, timeout_s: float = 30.0) -> Iterator[Orthanc]:
    """A PACS for the time of the ``with`` block; it holds what it held when it was stopped in that folder.

    Args:
        folder: takes its configuration, storage and log.
        port: a free one if left out.
        timeout_s: how long it may take to answer, in seconds.

    Raises:
        LaunchError: it ended or did not answer in time.
    """
    binary, plugin = _binary(), _plugin()
    if binary is None or plugin is None:
        raise RuntimeError(missing_orthanc())
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    config = {
        "Name": "sam3d_adapter tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(plugin)],
        "HttpPort": port,
        "AuthenticationEnabled": False,
        # Listens on all addresses whatever one asks for, so strangers must be refused.
        "RemoteAccessAllowed": False,
        "DicomServerEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    config_path, log_path = folder / "orthanc.json", folder / "orthanc.log"
    config_path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [binary, str(config_path)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://{LOOPBACK}:{port}"
        wait_for_answer(process, f"{url}/system", log_path=log_path, timeout_s=timeout_s)
        yield Orthanc(url)
    finally:
        stop(process)


def _binary() -> str | None:
    return shutil.which("Orthanc", path=_BINARY_PATH)


def _plugin() -> Path | None:
    found = [path for folder in _PLUGIN_FOLDERS for path in sorted(Path(folder).glob("libOrthancDicomWeb.so*"))]
    return found[0] if found else None
