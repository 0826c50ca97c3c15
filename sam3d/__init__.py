"""Click-to-segment in 3-D with 3DSAM-adapter: the program ``sam3d`` and the MONAI Label app that it runs.

Importing this package makes the app's own package ``lib`` importable.
"""

import sys
from pathlib import Path

_INSTALLED = Path(__file__).resolve().parent / "app"
_CHECKOUT = Path(__file__).resolve().parents[1] / "apps/sam3d_adapter"

APP_DIR = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
"""The MONAI Label app as it is distributed. Nothing is written here if the package is installed; see `app_folder`."""

sys.path.insert(0, str(APP_DIR))

from lib.version import __version__  # noqa: E402 (found on the path set above)

__all__ = ["APP_DIR", "__version__"]
