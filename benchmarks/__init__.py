"""Measurements behind BENCHMARKS.md and docs/experiments: one file a question, each prints its table."""

import sys
from pathlib import Path

# As MONAI Label does it: the app is a folder, not an installed package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "apps" / "sam3d_adapter"))
