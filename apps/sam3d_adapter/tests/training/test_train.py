"""Training from scratch: it learns, it goes on where it stopped, two processes agree, and what it writes is served."""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.families.click_unet.config import CLICK_UNET_SIZES
from lib.families.click_unet.network import ClickUnet
from lib.models.checkpoint import load_model
from lib.models.sam3d import Sam3dAdapter
from lib.models.trainable import trained_names
from lib.presets import load_preset
from lib.pretraining import pretrain
from lib.pretraining.pretrain import build_from_scratch
from lib.training import train as train_module
from lib.training.data_sets import DataSet
from lib.training.interaction import InteractionConfig
from lib.training.interactions import Interactions
from lib.training.micro_batching import MemoryShortageError
from lib.training.sampling import SamplingConfig
from lib.training.stream import SampleStream
from lib.training.train import TrainingConfig, learning_rate, train
from lib.training.validation import dice

APP = Path(__file__).resolve().parents[2]
SAMPLING = SamplingConfig(roi_size=32, too_fine_share=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four volumes of 40 mm, each with one bright block."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for number in range(4):
        labels = np.zeros((40, 40, 40), np.uint8)
        low = rng.integers(8, 16, 3)
        labels[tuple(slice(a, a + 14) for a in low)] = 1
        image = (60 * labels + rng.normal(0, 10, labels.shape)).astype(np.int16)
        np.savez_compressed(folder / f"{number}.npz", image=image, labels=labels, affine=np.eye(4))
    return folder


INTERACTION = InteractionConfig(rounds=(0.6, 0.4), box_share=0.3)


def new_model():
    """The same values each time."""
    return build_from_scratch("test", 0)


def run(folder, out, *, batch=2, model=None, **how):
    """A short training; the trained model and the curve."""
    model = model or new_model()
    data = DataSet(folder, load_preset(APP / "configs/ct.yaml"))
    stream = SampleStream([data], SAMPLING, seed=1, batch=batch)
    validation = [next(iter(SampleStream([data], SAMPLING, seed=0)))]
    out.mkdir(exist_ok=True)
    config = TrainingConfig(**{"interaction": INTERACTION} | how)
    progress = train(model, Interactions(model, config), stream, {"held out": validation}, config, out)
    return model, progress.curve


def test_learning_rate_warms_up_and_falls():
    config = TrainingConfig(minutes=1.0)
    rates = [learning_rate(config, step, step / 1000) for step in range(1000)]
    assert rates[0] < rates[config.warm_up_steps] and rates[-1] < 0.02 * config.peak_lr
    assert math.isclose(max(rates), config.peak_lr, rel_tol=0.05)


@pytest.mark.slow
def test_it_learns_goes_on_and_writes_what_loads(folder, tmp_path, caplog):
    run(folder, tmp_path, minutes=0.05)
    first = json.loads((tmp_path / "test_curve.json").read_text())
    caplog.set_level("INFO")
    average, _ = run(folder, tmp_path, minutes=0.2)
    curve = json.loads((tmp_path / "test_curve.json").read_text())
    assert f"Resuming at step {first[-1]['step']}" in caplog.text
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


def values(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(folder, tmp_path):
    """Stopped for good after four steps, at the point that it had saved."""
    how = {"report_steps": 4, "precision": "fp32"}
    whole, curve = run(folder, tmp_path / "whole", steps=8, **how)
    state = tmp_path / "stopped"

    class Killed(Exception):
        pass

    def kill(progress):
        raise Killed

    model = new_model()
    data = DataSet(folder, load_preset(APP / "configs/ct.yaml"))
    state.mkdir()
    config = TrainingConfig(steps=8, interaction=INTERACTION, **how)
    with pytest.raises(Killed):
        train(model, Interactions(model, config), SampleStream([data], SAMPLING, seed=1), {}, config, state, kill)
    again, rest = run(folder, state, steps=8, **how)
    assert [point["step"] for point in rest] == [point["step"] for point in curve] == [4, 8]
    torch.testing.assert_close(values(again), values(whole), rtol=0, atol=0)


def test_a_saved_state_has_its_curve(folder, tmp_path, monkeypatch):
    """Killed between the two, a finished training would have no curve."""
    saved = []

    def save(path, progress, *values):
        saved.append((progress.step, json.loads((tmp_path / "test_curve.json").read_text())[-1]["step"]))

    monkeypatch.setattr(train_module, "save_state", save)
    run(folder, tmp_path, steps=2, report_steps=1)
    assert saved == [(1, 1), (2, 2)]


def test_small_micro_batches_give_the_gradients_of_the_whole(folder, tmp_path, monkeypatch):
    """Memory that runs out whenever more than one region is taken at once."""
    how = {"steps": 3, "batch": 4, "precision": "fp32", "report_steps": 3}
    whole, _ = run(folder, tmp_path / "whole", **how)
    encode, taken = Sam3dAdapter.encode, []

    def greedy(self, roi):
        taken.append(len(roi))
        if torch.is_grad_enabled() and len(roi) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        return encode(self, roi)

    monkeypatch.setattr(Sam3dAdapter, "encode", greedy)
    bitten, _ = run(folder, tmp_path / "bitten", **how)
    assert taken[:7] == [4, 2, 1, 1, 1, 1, 1]
    torch.testing.assert_close(values(bitten), values(whole), rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] err == 0. DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["of torch", "without a word"],
)
def test_it_says_when_nothing_fits(folder, tmp_path, monkeypatch, caplog, error):
    def starved(self, roi):
        raise error

    monkeypatch.setattr(Sam3dAdapter, "encode", starved)
    with pytest.raises(MemoryShortageError, match="not even one region"):
        run(folder, tmp_path, steps=1)
    assert "1 region(s) at a time" in caplog.text and "activations computed twice" in caplog.text


def test_any_network_that_answers_clicks_can_be_trained(folder, tmp_path, monkeypatch):
    torch.manual_seed(0)
    how = {"steps": 24, "report_steps": 12, "warm_up_steps": 1, "peak_lr": 1e-2}
    model, curve = run(folder, tmp_path, model=ClickUnet(CLICK_UNET_SIZES["test"]), **how)
    assert curve[-1]["loss"] < 0.9 * curve[0]["loss"] and {"dice", "dice_2", "obeyed"} <= curve[-1].keys()

    def starved(self, roi):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    monkeypatch.setattr(ClickUnet, "encode", starved)
    with pytest.raises(MemoryShortageError, match="not even one region"):
        run(folder, tmp_path / "starved", model=model, steps=1)


class SlowStream(SampleStream):
    """A process that is kept from its core while it draws."""

    def __iter__(self):
        for batch in super().__iter__():
            time.sleep(0.5)
            yield batch


@pytest.mark.slow
@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_time_that_others_take_counts_by_the_wall_clock_alone(folder, tmp_path, clock):
    data = DataSet(folder, load_preset(APP / "configs/ct.yaml"))
    config = TrainingConfig(steps=3, interaction=InteractionConfig(rounds=(1.0,), box_share=0), clock=clock)
    began = time.process_time()
    model = new_model()
    progress = train(model, Interactions(model, config), SlowStream([data], SAMPLING, seed=1), {}, config, tmp_path)
    used = time.process_time() - began
    if clock == "wall":
        assert progress.spent_s > 3 * 0.5
    else:
        assert 0 < progress.spent_s < used
    assert progress.curve[-1]["minutes"] == progress.spent_s / 60


@pytest.mark.parametrize(
    ("how", "message"), [({"clock": "sun"}, "wall, cpu"), ({"clock": "cpu", "workers": 2}, "none")]
)
def test_a_clock_that_cannot_tell_is_refused(how, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(steps=1, **how)


def test_patience_ends_with_the_best(folder, tmp_path):
    """At a learning rate that destroys the model, the first point stays the best."""
    _, good = run(folder, tmp_path, steps=6, report_steps=3, patience=2)
    _, curve = run(folder, tmp_path / "bad", steps=60, report_steps=1, patience=3, peak_lr=3.0, warm_up_steps=1)
    best = max(range(len(curve)), key=lambda n: curve[n]["dice_2"])
    assert len(curve) == best + 1 + 3 < 60


def test_equal_seeds_start_equally():
    one, two, other = (values(build_from_scratch("test", seed)) for seed in (5, 5, 6))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_training_needs_an_end():
    with pytest.raises(ValueError, match="minutes or steps"):
        TrainingConfig()


def test_dice_of_masks():
    a, b = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    assert dice(a, b) == 0.5 and dice(~a & a, a) == 0.0


TWO = """
import sys, torch, torch.distributed as dist
from lib.training.distributed import average_gradients, joined_processes
with joined_processes("cpu"):
    a, b, c = (torch.zeros(n, requires_grad=True) for n in (3, 2, 4))
    a.grad = torch.full((3,), float(dist.get_rank()))
    if dist.get_rank():
        b.grad = torch.full((2,), 4.0)  # a part that the other process's batch did not need
    average_gradients([a, b, c])
assert a.grad.eq(0.5).all() and b.grad.eq(2.0).all() and c.grad.eq(0.0).all()
"""


TRAIN = """
import sys, torch, torch.distributed as dist
from pathlib import Path
from lib.training.distributed import joined_processes
sys.path.insert(0, {tests!r})
import test_train as t
torch.set_num_threads(1)
with joined_processes("cpu"):
    rank = dist.get_rank()
    model = t.build_from_scratch("test", 9 if rank else 0)  # of no consequence: the first one's values count
    data = t.DataSet(Path({folder!r}), t.load_preset(t.APP / "configs/ct.yaml"))
    stream = t.SampleStream([data], t.SAMPLING, seed=1, batch=2, part=rank, parts=2)
    config = t.TrainingConfig(steps=4, report_steps=2, precision="fp32", interaction=t.INTERACTION)
    t.train(model, t.Interactions(model, config), stream, {{}}, config, Path({out!r}))
torch.save(t.values(model), Path({out!r}) / f"{{rank}}.pt")
"""


def torchrun(script):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(APP)}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_average_their_gradients(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    torchrun(script)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_train_the_model_that_one_trains(folder, tmp_path):
    one, _ = run(folder, tmp_path / "one", steps=4, report_steps=2, batch=4, precision="fp32")
    script, out = tmp_path / "train.py", tmp_path / "two"
    out.mkdir()
    script.write_text(TRAIN.format(tests=str(Path(__file__).parent), folder=str(folder), out=str(out)))
    torchrun(script)
    first, second = (torch.load(out / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, values(one), rtol=1e-3, atol=2e-4)


def test_data_sets_of_the_command_line(folder):
    choice = pretrain.read_choice(f"ct={folder}:0.5")
    data = choice.open(frozenset({"0"}), validation=False)
    assert data.share == 0.5 and data.preset.name == "ct" and [file.stem for file in data.files] == ["1", "2", "3"]
    assert [file.stem for file in choice.open(frozenset({"0"}), validation=True).files] == ["0"]
    assert len(choice.open(frozenset({"unknown"}), validation=True).files) == 4
    for text in (str(folder), f"cct={folder}", f"ct={folder}:much"):
        with pytest.raises(argparse.ArgumentTypeError, match="PRESET=FOLDER"):
            pretrain.read_choice(text)


def test_weights_on_their_parents_base(folder, tmp_path):
    """What was trained with the parent's base kept runs on the parent's own file of it."""
    base, weights = (APP / "weights" / f"tiny_{part}.safetensors" for part in ("base", "structures"))
    training = pretrain.Pretraining(
        data_sets=(pretrain.read_choice(f"ct={folder}"),),
        config=TrainingConfig(steps=1, precision="fp32"),
        out=tmp_path,
        parent=(base, weights),
        keeps_base=True,
        batch=1,
        name="child",
    )
    pretrain.pretrain(training, torch.device("cpu"))
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["tiny_child.safetensors"]
    child, report = load_model(size="tiny", base=base, weights=tmp_path / "tiny_child.safetensors")
    parent, _ = load_model(size="tiny", base=base, weights=weights)
    changed = {
        name
        for (name, now), before in zip(child.named_parameters(), parent.parameters(), strict=True)
        if not torch.equal(now, before)
    }
    assert changed and changed <= trained_names(child) and report.provenance["steps"] == 1


def test_it_says_how_far_it_is(folder, tmp_path, caplog):
    caplog.set_level("INFO")
    run(folder, tmp_path, steps=4, log_s=0.0)
    told = [line for line in caplog.messages if "min left" in line]
    assert [line.split(",")[0] for line in told] == ["step 1", "step 2", "step 3", "step 4"]
    left = [float(line.split("about ")[1].split(" ")[0]) for line in told]
    assert left[-1] == 0 and all("loss=" in line for line in told)
