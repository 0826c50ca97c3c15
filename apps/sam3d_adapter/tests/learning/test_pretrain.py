"""Training from scratch: it learns, it goes on where it stopped, and what it writes can be served."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.learning import pretrain
from lib.learning.initialise import initialise_from_scratch
from lib.learning.sampling import SamplingConfig
from lib.models.build import build_model
from lib.models.checkpoint import load_model
from lib.presets import load_preset

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CONFIG = SamplingConfig(roi_size=32, too_fine_share=0.0)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Four volumes of 40 mm, each with one bright block."""
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    for number in range(4):
        labels = np.zeros((40, 40, 40), np.uint8)
        low = rng.integers(8, 16, 3)
        labels[tuple(slice(a, a + 14) for a in low)] = 1
        image = (60 * labels + rng.normal(0, 10, labels.shape)).astype(np.int16)
        np.savez_compressed(folder / f"{number}.npz", image=image, labels=labels, affine=np.eye(4))
    return folder


@pytest.fixture
def preset():
    return load_preset(CONFIGS / "ct.yaml")


def run(model, pool, preset, out, minutes):
    stream = pretrain.RoiStream(pool, preset, CONFIG, seed=1)
    validation = [next(iter(pretrain.RoiStream(pool, preset, CONFIG, seed=0)))]
    return pretrain.train(model, stream, validation, minutes=minutes, out=out, workers=0)


def fresh():
    model = build_model("test")
    initialise_from_scratch(model, torch.Generator().manual_seed(0))
    return model


def test_the_stream_is_normalised_and_empty_beyond_the_image(pool, preset):
    rois, truths, clicks = next(iter(pretrain.RoiStream(pool, preset, CONFIG, seed=3)))
    assert rois.shape == truths.shape == (pretrain.BATCH, 1, 32, 32, 32) and truths.dtype == torch.bool
    assert clicks.shape[0] == pretrain.BATCH and rois.abs().max() <= 5
    assert abs(rois[truths].mean() - rois[~truths].mean()) > 0.3  # either sign: tissue may be remapped


def test_the_stream_wants_a_fixed_window(pool):
    with pytest.raises(ValueError, match="no fixed intensity window"):
        pretrain.RoiStream(pool, load_preset(CONFIGS / "mr.yaml"), CONFIG, seed=0)


def test_learning_rate_warms_up_and_falls():
    rates = [pretrain.learning_rate(step, step / 1000) for step in range(1000)]
    assert rates[0] < rates[pretrain.WARM_UP_STEPS] and rates[-1] < 0.02 * pretrain.PEAK_LR
    assert math.isclose(max(rates), pretrain.PEAK_LR, rel_tol=0.05)


def test_it_learns_goes_on_and_writes_what_loads(pool, preset, tmp_path, caplog):
    run(fresh(), pool, preset, tmp_path, minutes=0.05)
    first = json.loads((tmp_path / "test_curve.json").read_text())
    caplog.set_level("INFO")
    average = run(fresh(), pool, preset, tmp_path, minutes=0.15)
    curve = json.loads((tmp_path / "test_curve.json").read_text())
    assert f"Going on at step {first[-1]['step']}" in caplog.text
    assert curve[: len(first)] == first and curve[-1]["step"] > first[-1]["step"]
    assert curve[-1]["loss"] < first[-1]["loss"]

    pretrain.export(average, tmp_path, "trial", {"data": "4 blocks", "licence": "none"})
    loaded, report = load_model(
        size="test", base=tmp_path / "test_base.safetensors", weights=tmp_path / "test_trial.safetensors"
    )
    assert report.provenance["curve"] == curve[-1]
    for kept, read in zip(average.parameters(), loaded.parameters(), strict=True):
        torch.testing.assert_close(read, kept.half().float())


def test_dice_of_masks():
    a, b = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    assert pretrain.dice(a, b) == 0.5 and pretrain.dice(~a & a, a) == 0.0
