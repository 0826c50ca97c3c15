"""Patches: a PACS is waited for as long as the network does, and asked five times.

MONAI Label 0.8.5 makes its DICOMweb client without a time-out (``monailabel/interfaces/app.py:168``), and
dicomweb-client 0.60 repeats whatever failed, with pauses of 30 s together (``dicomweb_client/web.py:135``). Nobody is
answered meanwhile. We know of no upstream issue.
"""

from typing import Any

from monailabel.datastore.dicom import DICOMWebDatastore
from requests.adapters import HTTPAdapter

from lib.host.patches.version_guard import check_host_version

CONNECT_S, READ_S = 5.0, 60.0
"""Time-outs: for a connection, and between two pieces of an answer. A large series may take long to begin."""
ATTEMPTS = 2
"""A PACS that is busy for a moment (status 429, 503) is asked once more, two seconds later."""


class _TimedAdapter(HTTPAdapter):
    def send(self, request: Any, *, timeout: Any = None, **options: Any) -> Any:  # type: ignore[override]
        return super().send(request, timeout=timeout or (CONNECT_S, READ_S), **options)


def with_time_limits(datastore: Any) -> Any:
    """The data store; one that stands before a PACS waits for no answer of it without end.

    Args:
        datastore: as MONAI Label made it; of a PACS, its client's session is changed.
    """
    if isinstance(datastore, DICOMWebDatastore):
        check_host_version(__name__)
        for scheme in ("https://", "http://"):
            datastore._client._session.mount(scheme, _TimedAdapter())
        datastore._client.set_http_retry_params(max_attempts=ATTEMPTS)
    return datastore
