"""SAM 2 is trained as it is served: on clips, with simulated and recorded clicks, and no more than is to be trained."""

import copy
import dataclasses
import json
import threading
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base

from lib.families.sam2 import recipe as recipes
from lib.families.sam2.clip_interactions import ClipInteractions, ClipTracker, play
from lib.families.sam2.clips import Clips, ClipStream
from lib.families.sam2.network import build_network, load_network, save_network
from lib.families.sam2.pretrain import pretrain
from lib.families.sam2.propagation import EMPTY, SlicePrompts, Tracker
from lib.families.sam2.settings import SliceSettings
from lib.families.sam2.sizes import SIZES
from lib.families.sam2.trained_network import LOSSES, TAP, TRAINED, TrainedNetwork
from lib.presets import load_preset
from lib.pretraining.pretrain import DataSetChoice, Pretraining
from lib.segmenters.contract import Stages
from lib.segmenters.intensity_settings import WindowIntensity
from lib.training.interaction import InteractionConfig
from lib.training.sampling import Volume
from lib.training.stream import Drawn
from lib.training.train import TrainingConfig, train
from tests.support.hospital import Hospital, short_rounds
from tests.support.server import APP_DIR

__all__ = ["short_rounds"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WINDOW = WindowIntensity((-100, 200), 40, 60)
SETTINGS = SliceSettings("neighbours", 3, WINDOW)
CLICKS = np.array([[9.0, 9.0, 3.0, 0.0], [10.0, 11.0, 5.0, 1.0], [12.0, 10.0, 6.0, 1.0], [2.0, 2.0, 5.0, 0.0]])
CONFIG = TrainingConfig(steps=2, precision="fp32", peak_lr=1e-2, warm_up_steps=1, report_steps=1)


class Block:
    """A bright block in slices 3 to 8 of 10, with clicks of a user."""

    share, remap_share, spacings_mm = 1.0, 0.0, (1.0,)

    def __init__(self, clicks: np.ndarray = CLICKS, count: int = 10) -> None:
        labels = np.zeros((24, 22, count), np.uint8)
        labels[7:16, 6:15, 3:9] = 1
        values = np.random.default_rng(0).normal(0, 10, labels.shape) + 100 * labels
        self._volume = Volume(values.astype(np.int16), labels, np.diag([1.0, 1.0, -3.0, 1.0]))
        self._clicks = clicks

    def draw(self, rng: np.random.Generator, number: int = 0) -> Drawn:
        return Drawn(self._volume, 1, WINDOW, self._clicks)


def stream(*, seed: int = 1, **how: object) -> ClipStream:
    return ClipStream([Block()], SETTINGS, 64, seed, **how)  # type: ignore[arg-type]


def network(size: str, model: SAM2Base, *losses: str) -> TrainedNetwork:
    return TrainedNetwork(copy.deepcopy(model), size, losses)


def test_clips_hold_the_click_and_go_on_with_recorded_ones() -> None:
    for batch in [next(iter(stream(seed=seed, batch=3, recorded_share=1.0))) for seed in range(6)]:
        assert batch.images.shape[2:] == (3, 64, 64)
        for row in range(3):
            clip = batch.clip(row)
            assert len(clip.images) in (3, 6, 10) and len(clip.recorded) <= 2
            number, x, y = clip.first.tolist()
            assert clip.truths[int(number), int(y), int(x)]
            slices = clip.positions[clip.recorded[:, 0].long()]
            assert slices.tolist() in ([-6.0, -5.0], [-6.0], [-5.0], [])  # k falls from foot to head
            for n, x, y, sign in clip.recorded.tolist():
                assert bool(clip.truths[int(n), int(y), int(x)]) == bool(sign)
            assert (clip.positions[1:] - clip.positions[:-1]).abs().eq(1).all()
            assert clip.truths.flatten(1).any(1).tolist() == [3 <= -p < 9 for p in clip.positions.tolist()]


def test_a_clip_is_answered_in_training_as_it_is_served(size: str, model: SAM2Base) -> None:
    clip = next(iter(stream(is_varied=False, lengths=(6,)))).clip(0)
    trained = network(size, model)
    with torch.no_grad():
        features, _ = trained.encode(clip.images)
    served, told = (
        Tracker(trained.model, threading.Lock(), features.__getitem__, 6, Stages()),
        ClipTracker(trained, features, None),
    )
    tracks = []
    for tracker in (served, told):
        track = EMPTY
        for prompts in (SlicePrompts(2, ((30.0, 30.0),), (1,)), SlicePrompts(4, ((20.0, 9.0), (3.0, 3.0)), (1, 0))):
            track = tracker.answer(track, prompts)
        tracks.append(track)
    for number in range(6):
        assert torch.equal(*(track.logits[number].detach() for track in tracks))
    assert {answer.number for answer in told.answers} == set(range(6))


def test_an_interaction_follows_the_users_clicks_then_corrects_and_may_start_with_a_box(
    size: str, model: SAM2Base
) -> None:
    trained = network(size, model)
    how = {"is_varied": False, "lengths": (10,), "recorded_share": 1.0}
    clip = next(iter(stream(**how))).clip(0)
    tracker = ClipTracker(trained, trained.encode(clip.images)[0], None)
    played = play(tracker, clip, 0, 4, CONFIG)
    assert [len(one.places) for one in played] == [1, 2, 3, 4] and [bool(one.answers) for one in played] == [1, 0, 0, 1]
    user = [[*clip.first.tolist(), 1.0], *clip.recorded.tolist()]
    assert [[float(n), *point, float(label)] for n, point, label in played[3].places[:3]] == user
    number, (x, y), label = played[3].places[3]
    assert label == int(clip.truths[number, int(y), int(x)])
    (boxed,) = play(tracker, clip, 0, 1, CONFIG, with_box=True)
    (n, (left, top), first), (_, (right, bottom), second) = boxed.places
    _, x, y = clip.first.tolist()
    assert (n, first, second) == (int(clip.first[0]), 2, 3) and left < x < right and top < y < bottom


@pytest.mark.parametrize("loss", ["masks", *LOSSES])
def test_each_loss_has_a_gradient_at_the_tap(size: str, model: SAM2Base, loss: str) -> None:
    trained = network(size, model, *LOSSES)
    clip = next(iter(stream(lengths=(6,)))).clip(0)
    features, tap = trained.encode(clip.images)
    assert trained.position is not None and trained.boundary is not None
    if loss == "position":
        value = trained.position(tap[-1], clip.positions)
    else:
        tracker = ClipTracker(trained, features, [True] * 6)
        (played,) = play(tracker, clip, 0, 1, CONFIG)
        tracked = [answer for answer in played.answers if not answer.is_prompted]
        value = sum(answer.candidates.mean() for answer in played.answers)
        if loss == "boundary":
            value = sum(trained.boundary(tap[1][a.number][None], a.conditioned, clip.truths[a.number]) for a in tracked)
    value.backward()
    at_tap = [p.grad for p in trained.model.get_submodule(TAP).parameters()]
    assert any(grad is not None and grad.abs().sum() > 0 for grad in at_tap)


def masks_after_a_step(size: str, model: SAM2Base, folder: Path, *losses: str) -> torch.Tensor:
    trained = network(size, model, *losses)
    train(trained, ClipInteractions(trained, CONFIG), stream(), {}, CONFIG, _made(folder))
    clip = next(iter(stream(is_varied=False, lengths=(6,)))).clip(0)
    with torch.no_grad():
        played = play(ClipTracker(trained, trained.encode(clip.images)[0], None), clip, 0, 1, CONFIG)
    return torch.cat([played[0].track.logits[number] for number in range(6)])


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_masks_are_others_where_a_loss_is_on(size: str, model: SAM2Base, tmp_path: Path) -> None:
    off, again, *on = (
        masks_after_a_step(size, model, tmp_path / str(number), *losses)
        for number, losses in enumerate([(), (), ("position",), ("boundary",)])
    )
    assert torch.equal(off, again)
    assert not torch.equal(off, on[0]) and not torch.equal(off, on[1]) and not torch.equal(on[0], on[1])


def test_where_the_network_denies_the_object_its_masks_are_trained_all_the_same(size: str, model: SAM2Base) -> None:
    trained = network(size, model)
    trained.model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(-30.0)
    clip = next(iter(stream(lengths=(3,)))).clip(0)
    features, _ = trained.encode(clip.images)
    for present, is_answered in ((None, False), ([True] * 3, True)):
        (played,) = play(ClipTracker(trained, features, present), clip, 0, 1, CONFIG)
        assert all(answer.score < 0 for answer in played.answers)
        assert all(bool((answer.candidates > -1000).any()) == is_answered for answer in played.answers)


def test_only_what_is_to_be_trained_changes_and_a_stopped_training_goes_on_to_the_same_end(
    size: str, model: SAM2Base, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def kill(progress: object) -> None:
        raise Killed

    def run(folder: Path, on_report: object = None) -> Mapping[str, torch.Tensor]:
        trained = network(size, model, *LOSSES)
        objective = ClipInteractions(trained, CONFIG)
        progress = train(trained, objective, stream(), {}, CONFIG, _made(folder), on_report)  # type: ignore[arg-type]
        assert [point["step"] for point in progress.curve] == [1, 2]
        return trained.model.state_dict()

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "stopped", kill)
    gone_on = run(tmp_path / "stopped")
    before = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], whole[name])}
    assert all(any(name.startswith(part) for name in changed) for part in TRAINED)
    assert all(name.startswith(TRAINED) for name in changed)
    assert all(torch.equal(whole[name], gone_on[name]) for name in whole)


def test_clicked_pixels_count_for_more(size: str, model: SAM2Base) -> None:
    batch = next(iter(stream(lengths=(6,), batch=1)))
    losses = []
    for weight in (0.0, 1.0, 2.0):
        interaction = InteractionConfig(rounds=(1.0,), box_share=0.0, click_weight=weight)
        config = dataclasses.replace(CONFIG, interaction=interaction)
        with torch.no_grad():
            losses.append(float(ClipInteractions(network(size, model), config).loss(batch, 0)))
    assert losses[0] < losses[1] < losses[2] and losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=0.2)


def test_activations_that_are_computed_twice_give_the_same_gradients(size: str, model: SAM2Base) -> None:
    batch = next(iter(stream(lengths=(6,), batch=1)))
    gradients = []
    for is_twice in (False, True):
        trained = network(size, model, *LOSSES)
        trained.gradient_checkpointing = is_twice
        ClipInteractions(trained, CONFIG).loss(batch, 3).backward()
        gradients.append({name: p.grad for name, p in trained.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 100
    for name, grad in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], grad, rtol=1e-4, atol=1e-6)


def test_it_learns(size: str, model: SAM2Base, tmp_path: Path) -> None:
    trained = TrainedNetwork(build_network(size), size)
    config = TrainingConfig(
        steps=30, precision="fp32", warm_up_steps=5, report_steps=15, interaction=InteractionConfig(rounds=(0.8, 0.2))
    )
    held_out: list[Clips] = [next(iter(stream(seed=9, is_varied=False, lengths=(10,))))]
    samples = stream(batch=1, lengths=(6,))
    progress = train(trained, ClipInteractions(trained, config), samples, {"held out": held_out}, config, tmp_path)
    first, last = progress.curve
    assert last["loss"] < 0.8 * first["loss"] and last["dice"] > 0.5 and {"dice_2", "obeyed"} <= last.keys()


PRESET = """description: Slice by slice, with random weights
label: lesion
model: {family: sam2, size: SIZE, weights: weights/slices.safetensors}
slices: {channels: same, stop_after: 2}
intensity: {mode: window, clip_hu: [-100, 200], mean: 40, std: 60}
"""


@pytest.fixture
def slices(tmp_path: Path, short_rounds: None, size: str, model: SAM2Base) -> Hospital:
    """A hospital whose volumes have few slices, and which serves this family."""
    hospital = Hospital(tmp_path)
    config = hospital.app / "configs/test.yaml"
    config.write_text(PRESET.replace("SIZE", size))
    hospital.preset = load_preset(config)
    hospital.versions = hospital.registry.of("test", size, "sam2")
    save_network(model, hospital.app / "weights/slices.safetensors", size, {"licence": "none"})
    for number in range(3):
        truth = np.zeros((24, 22, 8), np.uint8)
        truth[7 + number : 16, 6:15, 2:7] = 1
        values = np.random.default_rng(number).normal(0, 10, truth.shape) + 100 * truth
        for array, name in ((values.astype(np.int16), f"studies/patient_{number}.nii.gz"), (truth, "label.nii.gz")):
            nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, 3.0, 1.0])), tmp_path / name)
        hospital.store.refresh()
        label = str(tmp_path / "label.nii.gz")
        hospital.store.save_label(f"patient_{number}", label, "final", {"label_info": [{"name": "lesion", "idx": 1}]})
    hospital.store.refresh()
    return hospital


def test_a_round_that_was_killed_goes_on_and_what_it_makes_is_measured_kept_and_rolled_back(
    slices: Hospital, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = recipes.Sam2TrainingRecipe.save

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes.Sam2TrainingRecipe, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        slices.train()
    (run,) = (slices.versions.folder / "runs").iterdir()
    assert (run / f"{size}_state.pt").exists()
    monkeypatch.setattr(recipes.Sam2TrainingRecipe, "save", save)
    outcome = slices.train()
    assert [one.name for one in (slices.versions.folder / "runs").iterdir()] == [run.name]
    (version,) = slices.versions.versions()
    assert outcome["version"] == version.id and not outcome["published"]
    assert version.metrics["cases"] == {"train": 2, "validation": 1}
    assert {"candidate", "served"} == set(version.metrics["validation"])
    curve = json.loads((slices.versions.path(version.id) / "curve.json").read_text())
    assert [point["step"] for point in curve] == [2] and {"dice", "dice_5", "obeyed"} <= curve[0].keys()
    shipped, _ = load_network(size, slices.app / "weights/slices.safetensors")
    made, report = load_network(size, slices.versions.weights(version.id))
    moved = {n for n, p in shipped.state_dict().items() if not torch.equal(p, made.state_dict()[n])}
    assert moved and all(name.startswith(TRAINED) for name in moved) and report.provenance["parent"] == "shipped"
    slices.versions.publish(version.id, "Dr. Roe")
    assert slices.versions.served() == version
    slices.versions.publish("shipped", "Dr. Roe")
    assert slices.versions.served() is None


def test_a_size_that_nobody_publishes_is_trained_from_nothing(size: str, tmp_path: Path) -> None:
    for number in range(2):
        labels = np.zeros((20, 20, 6), np.uint8)
        labels[5 + number : 14, 5:12, 1:5] = 1
        values = (100 * labels + np.random.default_rng(number).normal(0, 10, labels.shape)).astype(np.int16)
        np.savez(tmp_path / f"{number}.npz", image=values, labels=labels, affine=np.diag([1.0, 1.0, 3.0, 1.0]))
    choice = DataSetChoice(load_preset(APP_DIR / "configs/ct.yaml"), tmp_path)
    training = Pretraining((choice,), CONFIG, tmp_path / "out", (choice,), frozenset({"1"}), name="blocks")
    pretrain(size, training, torch.device("cpu"))
    made, report = load_network(size, tmp_path / f"out/{size}_blocks.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(CONFIG.seed)
        began = build_network(size)
    moved = {name for name, p in began.state_dict().items() if not torch.equal(p, made.state_dict()[name])}
    assert any(name.startswith("image_encoder.trunk") for name in moved)
    assert report.provenance["data"] == [f"1 volumes of {tmp_path.name}, preset ct"] and report.provenance["steps"] == 2


def test_sizes_know_their_squares() -> None:
    assert {name: size.pixels for name, size in SIZES.items() if name != "nano"} == {
        "tiny": 1024, "small": 1024, "base_plus": 1024, "large": 1024, "tiny_512": 512, "micro": 256,
    }  # fmt: skip
