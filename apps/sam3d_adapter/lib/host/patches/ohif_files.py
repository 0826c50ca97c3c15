"""Patches ``/ohif``: the viewer gets this app's own panel, asks nobody else, and a folder's name is no status 500.

MONAI Label 0.8.5 sends whatever exists under a name (``monailabel/endpoints/ohif.py:31``), ``..`` included, and no
folder can be sent. We know of no upstream issue.

OHIF imports each text that it finds in ``window.config.extensions`` as an ES module from that address. So
``app-config.js``, which the viewer reads first, gets one line more, and the modules lie below ``/ohif/sam3d/``.

Its page and its style sheet ask a third party for a font, which tells that who looks at images, and when. The links are
taken out of the page, and a policy keeps the browser from what the style sheet imports; it has other fonts.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from fastapi.responses import FileResponse, HTMLResponse, Response

from lib.host.patches.version_guard import check_host_version
from lib.host.patches.wrapping import wrap
from lib.prompts.reading import short

PANEL_FOLDER = Path(__file__).resolve().parents[3] / "ohif"
_ENDPOINT = "monailabel.endpoints.ohif"
_CONFIG, _PANEL = "app-config.js", "sam3d/"
_KINDS = {".mjs": "text/javascript", ".css": "text/css"}
# Relative to the script itself, so that a reverse proxy may put the server below a path.
_REGISTER = (
    "\nwindow.config.extensions = [...(window.config.extensions || []), "
    "new URL('sam3d/extension.mjs', document.currentScript.src).href];\n"
)
# Asked for anew each time: the files change with a new version of the app, and their names do not.
_HEADERS = {"Cache-Control": "no-cache"}
_WEB_FONT = re.compile(r"<link[^>]*https://fonts\.[^>]*>")
_OWN_FONTS = {"Content-Security-Policy": "style-src 'self' 'unsafe-inline'; font-src 'self' data:"}


def patch_ohif_endpoint() -> None:
    """Wraps the endpoint's function; does nothing in a process that serves no HTTP."""
    wrap(_ENDPOINT, "get_ohif", _get_ohif)


def _get_ohif(host: Any, path: str) -> Any:
    check_host_version(__name__)
    folder = Path(str(sys.modules[_ENDPOINT].__file__)).resolve().parent / "static" / "ohif"
    if path == _CONFIG:
        text = (folder / _CONFIG).read_text(encoding="utf-8")
        return Response(text + _REGISTER, media_type=_KINDS[".mjs"], headers=_HEADERS)
    if path.startswith(_PANEL):
        return _panel_file(path.removeprefix(_PANEL))
    # The host makes a single name of the address, so that none leaves the folder; the viewer's page is its answer to
    # all names that it does not know.
    is_folder = os.path.isdir(os.path.join(folder, path.replace("/", os.pathsep)))
    answer = host("" if is_folder else path)
    if Path(answer.path).name != "index.html":
        return answer
    return HTMLResponse(_WEB_FONT.sub("", Path(answer.path).read_text(encoding="utf-8")), headers=_OWN_FONTS)


def _panel_file(name: str) -> FileResponse:
    files = {file.relative_to(PANEL_FOLDER).as_posix(): file for file in PANEL_FOLDER.rglob("*")}
    file = files.get(name)
    if file is None or file.suffix not in _KINDS:
        raise HTTPException(404, f"The panel has no file {short(name)}. Reload the page.")
    return FileResponse(file, media_type=_KINDS[file.suffix], headers=_HEADERS)
