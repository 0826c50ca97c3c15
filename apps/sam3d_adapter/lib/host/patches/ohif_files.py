"""Patches ``/ohif``: the viewer gets this app's own panel, asks nobody else, and a folder's name is no status 500.

MONAI Label 0.8.5 sends whatever exists under a name (``monailabel/endpoints/ohif.py:31``), ``..`` included, and no
folder can be sent. We know of no upstream issue.

OHIF imports each text that it finds in ``window.config.extensions`` as an ES module from that address. So
``app-config.js``, which the viewer reads first, gets one line more, and the modules lie below ``/ohif/sam3d/``.

Its page and its style sheet ask a third party for a font, which tells that who looks at images, and when. The links are
taken out of the page, and a policy keeps the browser from what the style sheet imports; it has other fonts.

Another built OHIF can be served in its place (``--conf ohif FOLDER``). What npm has of it was built for the root of a
server and asks for its files there, so they are answered there as well.
"""

import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC

from lib.host.own_endpoints import add_endpoints
from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap
from lib.prompts.reading import short

PANEL_FOLDER = Path(__file__).resolve().parents[3] / "ohif"
_ENDPOINT = "monailabel.endpoints.ohif"
_CONFIG, _PAGE, _PANEL = "app-config.js", "index.html", "sam3d/"
_KINDS = {".mjs": "text/javascript", ".css": "text/css"}
# Relative to the script itself, so that a reverse proxy may put the server below a path.
_REGISTER = """
window.config.extensions = [...(window.config.extensions || []), new URL('%s', document.currentScript.src).href];
"""
# For a viewer that does not know this server, nor a mode of MONAI Label's.
_ADOPT = """
Object.assign(window.config, %s, {modes: [...(window.config.modes || []),
  new URL('%s', document.currentScript.src).href]});
"""
_OF_THIS_SERVER = {
    "routerBasename": "/ohif/",
    # The first click on a viewport counts as well.
    "activateViewportBeforeInteraction": False,
    "defaultDataSourceName": "dicomweb",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": {
                "friendlyName": "DICOMweb server",
                "name": "dicomweb",
                "wadoUriRoot": "/proxy/dicom/wado",
                "qidoRoot": "/proxy/dicom/qido",
                "wadoRoot": "/proxy/dicom/wado",
                "qidoSupportsIncludeField": True,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": False,
                "supportsFuzzyMatching": True,
                "supportsWildcard": True,
                "dicomUploadEnabled": True,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}
# Asked for anew each time: the files change with a new version of the app, and their names do not.
_HEADERS = {"Cache-Control": "no-cache"}
_WEB_FONT = re.compile(r"<link[^>]*https://fonts\.[^>]*>")
_OWN_FONTS = {"Content-Security-Policy": "style-src 'self' 'unsafe-inline'; font-src 'self' data:"}


def patch_ohif_endpoint(viewer: Path | None) -> None:
    """Wraps the endpoint's function; does nothing in a process that serves no HTTP. May be called again.

    Args:
        viewer: folder of a built OHIF; None for the one that MONAI Label brings.
    """
    wrap(_ENDPOINT, "get_ohif", partial(_get_ohif, viewer=viewer))
    if viewer is not None:
        _serve_at_root(viewer)


def _serve_at_root(viewer: Path) -> None:
    router = APIRouter(dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))], include_in_schema=False)

    def send(name: str, path: str = "") -> Response:
        file = _below(viewer, f"{name}/{path}" if path else name)
        if file is None:
            raise HTTPException(404, f"The viewer has no file {short(path or name)}.")
        return _config(viewer, f"ohif/{_PANEL}", is_adopted=True) if name == _CONFIG else FileResponse(file)

    for entry in sorted(viewer.iterdir()):
        route = f"/{entry.name}/{{path:path}}" if entry.is_dir() else f"/{entry.name}"
        router.add_api_route(route, partial(send, entry.name), response_class=Response)
    add_endpoints("viewer", router)


def _get_ohif(host: Any, path: str, *, viewer: Path | None) -> Any:
    check_host_version(__name__)
    folder = viewer or Path(str(sys.modules[_ENDPOINT].__file__)).resolve().parent / "static" / "ohif"
    if path == _CONFIG:
        return _config(folder, _PANEL, is_adopted=viewer is not None)
    if path.startswith(_PANEL):
        return _panel_file(path.removeprefix(_PANEL))
    # The viewer's page is the answer to all names that it does not know: they are addresses within it.
    file = _below(folder, path)
    if file is not None and file.name != _PAGE:
        return FileResponse(file)
    return HTMLResponse(_WEB_FONT.sub("", (folder / _PAGE).read_text(encoding="utf-8")), headers=_OWN_FONTS)


def _below(folder: Path, name: str) -> Path | None:
    """A file of a folder by its name, if there is one."""
    try:
        file = (folder / name).resolve()
        return file if file.is_relative_to(folder.resolve()) and file.is_file() else None
    except (OSError, ValueError):
        return None


def _config(folder: Path, panel: str, *, is_adopted: bool) -> Response:
    """The viewer's settings and ours; ``panel`` is where the panel lies, seen from the address that was asked for."""
    text = (folder / _CONFIG).read_text(encoding="utf-8")
    if is_adopted:
        text += _ADOPT % (json.dumps(_OF_THIS_SERVER), f"{panel}mode.mjs")
    return Response(text + _REGISTER % f"{panel}extension.mjs", media_type=_KINDS[".mjs"], headers=_HEADERS)


def _panel_file(name: str) -> FileResponse:
    file = _below(PANEL_FOLDER, name)
    if file is None or file.suffix not in _KINDS:
        raise HTTPException(404, f"The panel has no file {short(name)}. Reload the page.")
    return FileResponse(file, media_type=_KINDS[file.suffix], headers=_HEADERS)
