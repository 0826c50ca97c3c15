"""Patches: whoever reaches the server reaches everything on the PACS's host, with the server's own account.

MONAI Label 0.8.5 joins what follows ``/proxy/dicom`` to the address of the PACS as it is, and sends it there with the
server's password (``monailabel/endpoints/proxy.py:73``): ``..``, written as ``%2e%2e``, leaves DICOMweb for whatever
else is served there, of Orthanc its REST interface with the running of scripts. Inside DICOMweb, some servers have
commands of their own beside the studies. Only what DICOM PS3.18 calls studies, series and instances is passed on here,
and sent there only new ones. We know of no upstream issue.
"""

import re
from typing import Any

from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.utils.app import app_instance

from lib.host.pacs.same_slices import note_metadata
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap
from lib.prompts.reading import short

_RESOURCES = ("studies", "series", "instances")
# UIDs, names of resources, lists of frames. No percent sign: what is decoded here once is decoded there once more; no
# semicolon: some servers take "..;" for "..".
_SEGMENT = re.compile(r"[A-Za-z0-9._~,:=+-]+", re.ASCII)


def patch_proxy() -> None:
    """Wraps the endpoints' function; does nothing in a process that serves no HTTP."""
    wrap("monailabel.endpoints.proxy", "proxy_dicom", _proxy_dicom)


def _proxy_dicom(host: Any, request: Any, op: str, path: str) -> Any:
    check_host_version(__name__)
    if not settings.MONAI_LABEL_STUDIES.startswith(("http://", "https://")):
        raise HTTPException(404, "There is no PACS behind this server: its images lie in a folder.")
    segments = path.removesuffix("/").split("/")
    is_plain = all(_SEGMENT.fullmatch(segment) and segment.strip(".") for segment in segments)
    if not is_plain or segments[0] not in _RESOURCES:
        raise HTTPException(
            404, f"{short(path)} is not passed on to the PACS; only its {', '.join(_RESOURCES)} are, as DICOMweb has "
            "them. Ask the PACS itself for anything else."
        )  # fmt: skip
    if request.method == "POST" and (segments[0] != "studies" or len(segments) > 2):
        raise HTTPException(
            404, f"Nothing can be sent to {short(path)}. New instances are stored in the PACS by POST to studies or "
            "studies/UID, as DICOMweb has it."
        )  # fmt: skip
    answer = host(request, op, path)
    return _noting(answer) if segments[-1] == "metadata" and "instances" not in segments else answer


async def _noting(coming: Any) -> Any:
    answer = await coming
    datastore = app_instance().datastore()
    if answer.status_code == 200 and isinstance(datastore, DICOMWebDatastore):
        note_metadata(answer.body, answer.headers.get("content-encoding"), datastore)
    return answer
