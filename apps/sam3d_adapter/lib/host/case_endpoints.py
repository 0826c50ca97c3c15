"""The cases and their state over HTTP, for the panel in OHIF; MONAI Label 0.8.5 lists those alone that it has fetched.

``GET /cases/`` says of each image ``id``, ``study``, ``modality``, ``description``, ``state`` (``new``, ``draft`` or
``submitted``), ``by`` (the author that the newest label names) and ``open_by`` (who has it on screen). ``PUT
/cases/{image}/open`` with ``{"by": "...", "client": "..."}`` says that somebody has, and holds for `OPEN_S` seconds.
Patients' names are in neither.

``GET /cases/{image}/segmentations`` lists the DICOM SEG of the PACS that were drawn on an image, whoever stored them;
``GET /cases/{image}/segmentations/{series}`` is one of them as NRRD, on the voxels of the image.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import FileResponse
from monailabel.config import RBAC_USER, settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from lib.host.own_endpoints import add_endpoints
from lib.host.pacs.segmentations import list_segmentations, segmentation_file
from lib.host.patches.datastore_endpoints import require_image

OPEN_S = 90.0
"""How long an image counts as open after its viewer has said so."""
DRAFT, FINAL = "draft", "final"
_MOST_VIEWERS = 1000


class Viewing(BaseModel, extra="forbid"):
    """Who has an image on screen."""

    by: str = Field("", max_length=100)
    client: str = Field(min_length=1, max_length=64)


class OpenImages:
    """Which images are on whose screen; in memory alone, for it is over in a minute.

    Args:
        clock: seconds, from anywhere.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        # By client, for it has one image open at a time.
        self._open: dict[str, tuple[str, str, float]] = {}

    def note(self, image: str, by: str, client: str) -> None:
        """A client has an image open, and no other one."""
        with self._lock:
            self._forget()
            if len(self._open) < _MOST_VIEWERS or client in self._open:
                self._open[client] = (image, by.strip(), self._clock())

    def of(self, image: str, but: str = "") -> list[str]:
        """Names of those who have an image open, ``"somebody"`` for who gave none; without the client ``but``."""
        with self._lock:
            self._forget()
            seen = [(client, by) for client, (one, by, _) in self._open.items() if one == image]
            return sorted({by or "somebody" for client, by in seen if client != but})

    def _forget(self) -> None:
        now = self._clock()
        self._open = {client: seen for client, seen in self._open.items() if now - seen[2] < OPEN_S}


def add_case_endpoints() -> None:
    """Adds the endpoints; does nothing in a process that serves no HTTP. May be called again."""
    add_endpoints("cases", _router(OpenImages()))


def _router(opened: OpenImages) -> APIRouter:
    user = [Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
    router = APIRouter(prefix="/cases", tags=["Cases"])

    # Without async: a PACS may take its time, and clicks must be answered meanwhile.
    @router.get("/", summary=f"{RBAC_USER}All images with their state", dependencies=user)
    def api_cases(client: str = "") -> dict[str, Any]:
        datastore = app_instance().datastore()
        return {"cases": [{**case, "open_by": opened.of(case["id"], client)} for case in list_cases(datastore)]}

    @router.put("/{image}/open", summary=f"{RBAC_USER}An image is on a screen", dependencies=user)
    def api_open(image: str, viewing: Viewing) -> dict[str, Any]:
        _pacs_of(image)
        opened.note(image, viewing.by, viewing.client)
        return {"open_by": opened.of(image, viewing.client)}

    @router.get("/{image}/segmentations", summary=f"{RBAC_USER}DICOM SEG of an image", dependencies=user)
    def api_segmentations(image: str) -> dict[str, Any]:
        datastore = _pacs_of(image)
        return {"segmentations": list_segmentations(image, datastore) if datastore else []}

    @router.get("/{image}/segmentations/{series}", summary=f"{RBAC_USER}One as a label map", dependencies=user)
    def api_segmentation(image: str, series: str) -> FileResponse:
        datastore = _pacs_of(image)
        if datastore is None:
            raise HTTPException(404, "The images of this server lie in a folder, which has no DICOM SEG.")
        file = segmentation_file(image, series, datastore)
        return FileResponse(file, media_type="application/octet-stream", background=BackgroundTask(file.unlink))

    return router


def _pacs_of(image: str) -> DICOMWebDatastore | None:
    """The data store, if it is a PACS.

    Raises:
        HTTPException: 404 where it has no such image.
    """
    datastore = app_instance().datastore()
    if image not in datastore.list_images():
        require_image(image, datastore)
    return datastore if isinstance(datastore, DICOMWebDatastore) else None


def list_cases(datastore: LocalDatastore) -> list[dict[str, Any]]:
    """Every image with its state, those without a label first.

    Args:
        datastore: of the app; a folder or a DICOMweb server.
    """
    # Labels that were stored in the PACS beside this server count as well.
    labelled = set(datastore.get_labeled_images()) if isinstance(datastore, DICOMWebDatastore) else set()
    cases = [_case(image, datastore, image in labelled) for image in datastore.list_images()]
    order = {"draft": 0, "new": 1, "submitted": 2}
    return sorted(cases, key=lambda case: (order[case["state"]], case["description"], case["id"]))


def _case(image: str, datastore: LocalDatastore, is_labelled: bool) -> dict[str, Any]:
    facts = datastore.study_of(image) if isinstance(datastore, DICOMWebDatastore) else {}
    found = datastore._datastore.objects.get(image)
    labels = {str(getattr(tag, "value", tag)): label.info for tag, label in (found.labels if found else {}).items()}
    # Times are whole seconds; of two that are equal the first here counts.
    times = {tag: labels[tag].get("ts") or 0 for tag in (FINAL, DRAFT) if tag in labels}
    newest = max(times, key=times.__getitem__, default=None)
    state = "draft" if newest == DRAFT else "submitted" if newest == FINAL or is_labelled else "new"
    author = labels[newest].get("author", "") if newest else ""
    return {
        "id": image,
        "study": facts.get("study", ""),
        "modality": facts.get("modality", ""),
        "description": facts.get("description", ""),
        "state": state,
        "by": author if isinstance(author, str) else "",
    }
