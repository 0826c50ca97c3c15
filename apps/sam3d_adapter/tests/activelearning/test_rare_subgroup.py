"""Coverage on real images with the weights that ship: a rare subgroup comes early where it looks different."""

import os
from pathlib import Path

import numpy as np
import pytest

from lib.activelearning.coverage import farthest
from lib.presets import load_preset
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.volumes.read import read_volume
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.server import APP_DIR

SHARED = os.environ.get("SAM3D_SHARED")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED, reason="SAM3D_SHARED names no folder with data/hippocampus, sts_mr_t1"),
]


def test_one_in_ten_comes_among_the_first_ten() -> None:
    preset = load_preset(APP_DIR / "configs/mr.yaml")
    segmenter = PresetSegmenter(preset, APP_DIR, SharedState.of(precision="fp32")).open("cpu")
    features: dict[str, np.ndarray] = {}
    for group, count in (("hippocampus", 90), ("sts_mr_t1", 10)):
        for path in sorted((Path(SHARED or "") / "data" / group / "images").glob("*.nii.gz"))[:count]:
            found = segmenter.features(read_volume(path))
            assert found is not None
            features[f"{group}/{path.name}"] = found
    assert len(features) == 100
    chosen: list[str] = []
    while len(chosen) < 10:
        rest = [name for name in features if name not in chosen]
        chosen.append(farthest(features, rest, chosen))
    rare = sum(name.startswith("sts_mr_t1") for name in chosen)
    # Chance gives 1; 4 or more in 1 % of all draws.
    assert rare >= 4, chosen
