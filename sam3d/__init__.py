"""Click-to-segment in 3-D with 3DSAM-adapter: the program ``sam3d`` and the MONAI Label app that it runs.

Importing this package makes the app's own package ``lib`` importable. From Python:

    model = sam3d.load("ct")
    mask = model.segment("liver_3.nii.gz", foreground=[(201, 188, 61)])
"""

import importlib
import sys
from pathlib import Path
from typing import Any

_INSTALLED = Path(__file__).resolve().parent / "app"
_CHECKOUT = Path(__file__).resolve().parents[1] / "apps/sam3d_adapter"

APP_DIR = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
"""The MONAI Label app as it is distributed. Nothing is written here if the package is installed; see `app_folder`."""

sys.path.insert(0, str(APP_DIR))

from lib.version import __version__  # noqa: E402 (found on the path set above)

_WHERE = {
    **dict.fromkeys(("Client", "ServerError"), "sam3d.client"),
    "Mask": "sam3d.mask",
    **dict.fromkeys(("Model", "load"), "sam3d.api"),
}

__all__ = ["APP_DIR", "Client", "Mask", "Model", "ServerError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """The Python interface, imported when it is used: a client and the program's help do not wait for torch."""
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'sam3d' has no attribute '{name}'")
