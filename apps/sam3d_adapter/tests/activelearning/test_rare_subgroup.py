"""Coverage on real images with the weights that ship: a rare subgroup comes early, and does not take all places."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lib.activelearning.coverage import representative, scaled
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


def test_one_in_ten_has_its_part_of_the_first_ten_and_all_are_covered_better_than_by_chance() -> None:
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
        chosen.append(representative(features, rest, chosen))
    rare = sum(name.startswith("sts_mr_t1") for name in chosen)
    # Chance gives 1. The farthest first would be 6.
    assert 2 <= rare <= 5, chosen
    at, names = scaled(features), sorted(features)

    def uncovered(group: str, some: list[str]) -> float:
        """Mean distance of a group to the nearest of some cases."""
        own = np.stack([at[name] for name in names if name.startswith(group)])
        return float(cdist(own, np.stack([at[name] for name in some])).min(axis=1).mean())

    rng = np.random.default_rng(0)
    by_chance = [rng.choice(names, 10, replace=False).tolist() for _ in range(50)]
    for group in ("hippocampus", "sts_mr_t1"):
        assert uncovered(group, chosen) < np.mean([uncovered(group, some) for some in by_chance]), group
