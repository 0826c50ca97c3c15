"""Patches: an archive of all labelled images is status 500 as long as none is labelled.

MONAI Label 0.8.5 asserts that there is one (``monailabel/datastore/local.py:386``). We know of no upstream issue.
"""

from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance

from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap


def patch_dataset_endpoint() -> None:
    """Wraps the endpoint's function; does nothing in a process that serves no HTTP."""
    wrap("monailabel.endpoints.datastore", "download_dataset", _download_dataset)


def _download_dataset(host: Any, limit_cases: int | None = None) -> Any:
    check_host_version(__name__)
    if not app_instance().datastore().datalist():
        raise HTTPException(404, "No image has a final label yet, so there is nothing to download. Save a label first.")
    return host(limit_cases)
