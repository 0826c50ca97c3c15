"""DICOM SEG of a PACS over HTTP, for the panel in OHIF, whoever stored them.

``GET /cases/{image}/segmentations`` lists those that were drawn on an image; ``GET
/cases/{image}/segmentations/{series}`` is one of them as NRRD, on the voxels of the image.
"""

from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import FileResponse
from monailabel.config import RBAC_USER, settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from starlette.background import BackgroundTask

from lib.host.own_endpoints import add_endpoints
from lib.host.pacs.segmentations import list_segmentations, segmentation_file
from lib.host.patches.datastore_endpoints import require_image


def add_segmentation_endpoints() -> None:
    """Adds the endpoints; does nothing in a process that serves no HTTP. May be called again."""
    user = [Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
    router = APIRouter(prefix="/cases", tags=["Workflow"])

    # Without async: a PACS may take its time, and clicks must be answered meanwhile.
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

    add_endpoints("segmentations", router)


def _pacs_of(image: str) -> DICOMWebDatastore | None:
    """The data store, if it is a PACS.

    Raises:
        HTTPException: 404 where it has no such image.
    """
    datastore = app_instance().datastore()
    if image not in datastore.list_images():
        require_image(image, datastore)
    return datastore if isinstance(datastore, DICOMWebDatastore) else None
