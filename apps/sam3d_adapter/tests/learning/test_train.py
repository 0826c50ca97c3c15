"""Training from scratch: it learns, it goes on where it stopped, two processes agree, and what it writes is served."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.learning import pretrain
from lib.learning.initialise import initialise_from_scratch
from lib.learning.interaction import InteractionConfig
from lib.learning.pools import Pool, RoiStream
from lib.learning.sampling import SamplingConfig
from lib.learning.train import TrainingConfig, dice, learning_rate, train
from lib.models.build import build_model
from lib.models.checkpoint import load_model
from lib.presets import load_preset

APP = Path(__file__).resolve().parents[2]
SAMPLING = SamplingConfig(roi_size=32, too_fine_share=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
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


def run(folder, out, minutes):
    model = build_model("test")
    initialise_from_scratch(model, torch.Generator().manual_seed(0))
    pool = Pool(folder, load_preset(APP / "configs/ct.yaml"))
    stream = RoiStream([pool], SAMPLING, seed=1)
    validation = [next(iter(RoiStream([pool], SAMPLING, seed=0)))]
    config = TrainingConfig(minutes, interaction=InteractionConfig(rounds=(0.6, 0.4)))
    return train(model, stream, validation, config, out)


def test_learning_rate_warms_up_and_falls():
    config = TrainingConfig(1.0)
    rates = [learning_rate(config, step, step / 1000) for step in range(1000)]
    assert rates[0] < rates[config.warm_up_steps] and rates[-1] < 0.02 * config.peak_lr
    assert math.isclose(max(rates), config.peak_lr, rel_tol=0.05)


def test_it_learns_goes_on_and_writes_what_loads(folder, tmp_path, caplog):
    run(folder, tmp_path, minutes=0.05)
    first = json.loads((tmp_path / "test_curve.json").read_text())
    caplog.set_level("INFO")
    average = run(folder, tmp_path, minutes=0.2)
    curve = json.loads((tmp_path / "test_curve.json").read_text())
    assert f"Going on at step {first[-1]['step']}" in caplog.text
    assert curve[: len(first)] == first and curve[-1]["step"] > first[-1]["step"]
    assert curve[-1]["loss"] < first[-1]["loss"]
    assert {"dice", "dice_2", "obeyed"} <= curve[-1].keys()
    pretrain.export(average, tmp_path, "trial", {"data": "4 blocks", "licence": "none"})
    loaded, report = load_model(
        size="test", base=tmp_path / "test_base.safetensors", weights=tmp_path / "test_trial.safetensors"
    )
    assert report.provenance["curve"] == curve[-1] and report.created == {}
    for kept, read in zip(average.parameters(), loaded.parameters(), strict=True):
        torch.testing.assert_close(read, kept.half().float())


def test_dice_of_masks():
    a, b = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    assert dice(a, b) == 0.5 and dice(~a & a, a) == 0.0


TWO = """
import sys, torch, torch.distributed as dist
from lib.learning.train import average_gradients
dist.init_process_group("gloo")
a, b, c = (torch.zeros(n, requires_grad=True) for n in (3, 2, 4))
a.grad = torch.full((3,), float(dist.get_rank()))
if dist.get_rank():
    b.grad = torch.full((2,), 4.0)  # a part that the other process's batch did not need
average_gradients([a, b, c])
assert a.grad.eq(0.5).all() and b.grad.eq(2.0).all() and c.grad.eq(0.0).all()
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_average_their_gradients(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(APP)}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_pools_of_the_command_line(folder):
    pool = pretrain.read_pool(f"ct={folder}:0.5", frozenset({"0"}), validation=False)
    assert pool.share == 0.5 and pool.preset.name == "ct" and [file.stem for file in pool.files] == ["1", "2", "3"]
    assert len(pretrain.read_pool(f"ct={folder}", frozenset({"unknown"}), validation=True).files) == 4
    with pytest.raises(pretrain.argparse.ArgumentTypeError, match="PRESET=FOLDER"):
        pretrain.read_pool(str(folder), frozenset(), validation=False)
