"""The networks of the peers' table are what the table says, and a whole run of it goes through and goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.peer_networks import PEERS, PUBLISHED_ON, UnsignedClicks, save, unsigned_clicks
from lib.models.prompts import RoiPrompts
from lib.presets import load_preset
from lib.segmenters import families
from lib.segmenters.frozen_store import FrozenStore
from lib.training.data_sets import DataSet
from lib.training.interaction import InteractionConfig
from lib.training.interactions import Interactions
from lib.training.sampling import SamplingConfig
from lib.training.stream import Batch, SampleStream
from lib.training.train import TrainingConfig, train
from tests.support.block_volumes import write_blocks

APP = Path(__file__).resolve().parents[2]
REPOSITORY = APP.parents[1]
SAMPLING = SamplingConfig(roi_size=32, too_fine_share=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three volumes of 40 mm, each with a bright block: as a data and, of the third, to be held out."""
    folder = tmp_path_factory.mktemp("data")
    write_blocks(folder, ("one", "two", "three"))
    (folder / "held_out.txt").write_text("three\n")
    return folder


def trained(name: str, data: Path, out: Path, *, steps: int = 6) -> torch.nn.Module:
    """A network of the table, in the size of the tests, after a few steps by its own recipe."""
    peer = PEERS[name]
    model = peer.build("test", 1)
    stream = peer.stream([DataSet(data, load_preset(APP / "configs/ct.yaml"))], SAMPLING, 1)
    config = TrainingConfig(steps=steps, report_steps=steps, warm_up_steps=1, interaction=peer.interaction)
    out.mkdir(exist_ok=True)
    train(model, Interactions(model, config), stream, {}, config, out)
    return model


def served(name: str, folder: Path):
    """As the server loads it."""
    family = families()[PEERS[name].family]
    files = {key: folder / f"{key}.safetensors" for key in family.files}
    return family.load("test", files, "cpu", FrozenStore())[0]


def test_all_begin_alike_and_differ_in_what_their_titles_say() -> None:
    ours, published, inert = (
        dict(PEERS[n].build("test", 3).named_parameters()) for n in ("ours", "published", "no_adapters")
    )
    assert ours.keys() == published.keys() == inert.keys()
    assert all(torch.equal(ours[n], published[n]) for n in ours)
    other = {n for n in ours if not torch.equal(ours[n], inert[n])}
    assert other and all(".adapter." in n for n in other)
    assert all(p.requires_grad for p in ours.values())
    assert {n for n, p in inert.items() if not p.requires_grad} == {n for n in inert if ".adapter." in n}


def test_inert_adapters_stay_inert_and_the_server_works_them_out_to_nothing(data, tmp_path) -> None:
    before = {n: p.clone() for n, p in PEERS["no_adapters"].build("test", 1).named_parameters()}
    model = trained("no_adapters", data, tmp_path)
    save(model, tmp_path, {})
    loaded = served("no_adapters", tmp_path)
    for block in loaded.model.image_encoder.blocks:
        tokens = torch.randn(1, 4, 4, 4, 24)
        assert type(block.adapter).__name__ == "SpatialAdapter" and torch.equal(block.adapter(tokens), tokens)
        assert not block.adapter.linear2.weight.any() and not block.adapter.linear2.bias.any()
    after = dict(model.named_parameters())
    assert all(torch.equal(after[n], before[n]) == (".adapter." in n) for n in before if "token_to_image" not in n)
    roi, prompts = torch.randn(1, 1, 32, 32, 32), RoiPrompts(torch.full((1, 1, 3), 16.0))
    with torch.no_grad():
        assert torch.equal(loaded.decode(loaded.encode(roi), prompts), model.decode(model.encode(roi), prompts))


@pytest.mark.parametrize(
    ("name", "knows"), [("ours", True), ("no_adapters", True), ("click_unet", True), ("published", False)]
)
def test_the_server_gives_each_what_it_was_trained_with(data, tmp_path, name, knows) -> None:
    # Two answers at most, so that every few steps correct something.
    peer = PEERS[name]
    rounds = peer.interaction if name == "published" else InteractionConfig(rounds=(0.0, 1.0), box_share=0.5)
    model = peer.build("test", 1)
    stream = peer.stream([DataSet(data, load_preset(APP / "configs/ct.yaml"))], SAMPLING, 1)
    config = TrainingConfig(steps=8, report_steps=8, warm_up_steps=1, interaction=rounds)
    train(model, Interactions(model, config), stream, {}, config, tmp_path)
    save(model, tmp_path, {})
    network = served(name, tmp_path)
    assert network.takes_previous == network.takes_background == knows


def test_unsigned_clicks_are_ten_on_the_object_and_twenty_anywhere(data) -> None:
    data_sets = [DataSet(data, load_preset(APP / "configs/ct.yaml"))]
    plain, unsigned = (next(iter(kind(data_sets, SAMPLING, 1, batch=4))) for kind in (SampleStream, UnsignedClicks))
    assert unsigned.clicks_dhw.shape == (4, 30, 3)
    assert torch.equal(plain.rois, unsigned.rois) and torch.equal(plain.truths, unsigned.truths)
    d, h, w = unsigned.clicks_dhw.long().unbind(-1)
    hit = unsigned.truths[:, 0][torch.arange(4)[:, None], d, h, w]
    share = unsigned.truths.float().mean()
    assert hit[:, :PUBLISHED_ON].all() and share < 0.3
    assert abs(hit[:, PUBLISHED_ON:].float().mean() - share) < 0.15
    assert (unsigned.clicks_dhw >= 0).all() and (unsigned.clicks_dhw < 32).all()
    assert len(unsigned.clicks_dhw.unique()) == 32  # all of every axis


def test_unsigned_clicks_depend_on_seed_and_number_alone() -> None:
    truths = torch.rand(3, 1, 32, 32, 32) < 0.1
    batch = Batch(truths.float(), truths, torch.full((3, 1, 3), 16.0), torch.zeros(3, 0, 4), torch.tensor([7, 8, 9]))
    clicks = unsigned_clicks(batch, 1)
    assert torch.equal(unsigned_clicks(batch.rows(slice(1, 2)), 1)[0], clicks[1])
    assert not torch.equal(unsigned_clicks(batch, 2), clicks)


def test_where_the_object_is_not_to_be_seen_the_first_click_is_repeated() -> None:
    truths = torch.zeros(1, 1, 32, 32, 32, dtype=torch.bool)
    batch = Batch(truths.float(), truths, torch.full((1, 1, 3), 16.0), torch.zeros(1, 0, 4), torch.tensor([0]))
    assert (unsigned_clicks(batch, 1)[0, :PUBLISHED_ON] == 16).all()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_whole_run_ends_in_a_table_and_is_not_done_twice(data, tmp_path) -> None:
    command = [sys.executable, "-m", "benchmarks.peers", "--data", f"ct={data}", "--images", f"ct={data}", "--trial"]
    command += ["--held-out", str(data / "held_out.txt"), "--jobs", "1", "--out", str(tmp_path)]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], cwd=REPOSITORY, capture_output=True, text=True, timeout=500)

    first = run("--minutes", "0.02")
    assert first.returncode == 0, first.stderr[-2000:]
    result = json.loads((tmp_path / "peers.json").read_text())
    assert list(result["networks"]) == list(PEERS) and list(result["differences"]) == list(PEERS)[1:]
    for own in result["networks"].values():
        assert own["steps"] > 0 and 0.02 <= own["cpu_minutes"] < 0.2
        assert {summary["n"] for summary in own["data"].values()} == {1}
    for title in (peer.title for peer in PEERS.values()):
        # Once in the table of trainings; twice, by first click, in that of scores of the one folder, and of all.
        assert sum(f"| {title} |" in line for line in first.stdout.splitlines()) >= 5
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/weights.safetensors")}
    assert len(weights) == len(PEERS)
    assert run("--minutes", "0.02").stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    refused = run("--minutes", "0.03")
    assert refused.returncode == 1 and "of another run" in refused.stderr
