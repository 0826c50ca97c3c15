"""Patches: an address below ``/ohif`` that is the name of a folder is status 500.

MONAI Label 0.8.5 sends whatever exists under that name (``monailabel/endpoints/ohif.py:31``), ``..`` included, and no
folder can be sent. We know of no upstream issue.
"""

import os
import sys
from typing import Any

from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap

_ENDPOINT = "monailabel.endpoints.ohif"


def patch_ohif_endpoint() -> None:
    """Wraps the endpoint's function; does nothing in a process that serves no HTTP."""
    wrap(_ENDPOINT, "get_ohif", _get_ohif)


def _get_ohif(host: Any, path: str) -> Any:
    check_host_version(__name__)
    folder = os.path.join(os.path.dirname(os.path.realpath(str(sys.modules[_ENDPOINT].__file__))), "static", "ohif")
    # The host makes a single name of the address, so that none leaves the folder; the viewer's page is its answer to
    # all names that it does not know.
    is_folder = os.path.isdir(os.path.join(folder, path.replace("/", os.pathsep)))
    return host("" if is_folder else path)
