"""The weights in the repository: small, whole, and better than looking away."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clicks import clicked_lesions
from benchmarks.phantoms import Served, dice, load_preset
from benchmarks.tune_baselines import frozen
from lib.models.checkpoint import load_model
from lib.phantoms.baselines import grow_region

APP = Path(__file__).resolve().parents[2]
PRESET = load_preset(APP / "configs" / "ct.yaml")
BASE, WEIGHTS = (APP / PRESET.model.file(key) for key in ("base", "weights"))


def test_they_fit_into_ten_megabytes():
    assert BASE.stat().st_size + WEIGHTS.stat().st_size <= 10_000_000


def test_they_load_and_say_where_they_come_from():
    model, report = load_model(size=PRESET.model.size, base=BASE, weights=WEIGHTS)
    assert {*report.loaded, *report.created} == {name for name, _ in model.named_parameters()}
    assert {"data", "licence", "preset", "seed"} <= report.provenance.keys()
    json.dumps(dict(report.provenance))


# Below what `python -m benchmarks.phantoms` gives over 40 phantoms by more than the interval of these eight.
FLOOR = {"centre": 0.60, "random": 0.40}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["centre", "random"])
def test_one_click_on_held_out_phantoms(mode, tmp_path):
    served, ours, grown = Served("ct", tmp_path), [], []
    _, growing = frozen()[mode]
    for seed, _, phantom, case in clicked_lesions(range(100, 108), mode):
        mask, _ = served(phantom, str(seed), case.click_ijk)
        ours.append(dice(mask, case.truth))
        grown.append(dice(grow_region(case.image, case.spacing, case.click_ijk, growing), case.truth))
    assert np.mean(ours) >= FLOOR[mode]
    assert np.mean(ours) > np.mean(grown)
