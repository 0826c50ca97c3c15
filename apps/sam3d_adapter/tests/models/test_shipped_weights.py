"""The weights in the repository: small, whole, and better than looking away."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.baselines import grow_region
from benchmarks.clicks import clicked_lesions
from benchmarks.phantoms import Served, dice, load_preset
from benchmarks.tune_baselines import frozen
from lib.models.checkpoint import load_model

APP = Path(__file__).resolve().parents[2]
PRESETS = ("ct", "ct_lesion", "mr", "pet")


def test_they_fit_into_ten_megabytes_together():
    assert sum(file.stat().st_size for file in (APP / "weights").iterdir()) <= 10_000_000


@pytest.mark.parametrize("name", PRESETS)
def test_they_load_and_say_where_they_come_from(name):
    network = load_preset(APP / "configs" / f"{name}.yaml").model
    base, weights = (APP / network.file(key) for key in ("base", "weights"))
    model, report = load_model(size=network.size, base=base, weights=weights)
    assert {*report.loaded, *report.created} == {name for name, _ in model.named_parameters()}
    assert {"data", "licence", "preset", "seed"} <= report.provenance.keys()
    json.dumps(dict(report.provenance))


# Below what `python -m benchmarks.phantoms` gives over 40 phantoms by more than the interval of these eight.
FLOOR = {("ct", "centre"): 0.60, ("ct", "random"): 0.40, ("ct_lesion", "centre"): 0.70, ("ct_lesion", "random"): 0.56}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("preset", "mode"), FLOOR)
def test_one_click_on_held_out_phantoms(preset, mode, tmp_path):
    served, ours, grown = Served(preset, tmp_path), [], []
    _, growing = frozen()[mode]
    for seed, _, phantom, case in clicked_lesions(range(100, 108), mode):
        mask, _ = served(phantom, str(seed), case.click_ijk)
        ours.append(dice(mask, case.truth))
        grown.append(dice(grow_region(case.image, case.spacing, case.click_ijk, growing), case.truth))
    assert np.mean(ours) >= FLOOR[preset, mode]
    assert np.mean(ours) > np.mean(grown)
