"""One click through the real server, with numbers and a picture. Start it with ``make demo``."""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
APP_DIR = REPOSITORY / "apps" / "sam3d_adapter"

# As MONAI Label does it: the app is a folder, not an installed package.
sys.path.insert(0, str(APP_DIR))
