"""What `tiny` may cost, counted in operations so that no noise of a machine decides."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib.models.build import build_model
from lib.models.prompts import Prompts
from lib.presets import load_preset

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Two cores were seen to do 77 GFLOP/s in fp32; an encode may take 1 s there, a further click 0.25 s.
ENCODE_GFLOP, CLICK_GFLOP = 77.0, 0.25 * 77.0


@pytest.fixture(scope="module")
def counted():
    """GFLOP of encoding and of a click in all views that the preset may take, and one embedding."""
    model = build_model("tiny")
    served = load_preset(CONFIGS / "ct.yaml").roi
    side, views = served.size, 1 + len(served.wider_spacings_mm)
    roi = torch.randn(1, 1, side, side, side)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as encode:
            embedding = model.encode(roi)
        with FlopCounterMode(display=False) as click:
            model.decode(embedding, Prompts(torch.full((1, 1, 3), side / 2)))
    return views * encode.get_total_flops() / 1e9, views * click.get_total_flops() / 1e9, embedding


def test_tiny_keeps_to_its_budget(counted):
    encode, click, _ = counted
    assert 1 < encode < ENCODE_GFLOP
    assert 1 < click < CLICK_GFLOP


def test_an_embedding_of_tiny_is_small(counted):
    *_, embedding = counted
    assert embedding.nbytes < 32 * 2**20
    assert embedding.nbytes == sum(t.nbytes for t in (embedding.deepest, embedding.prepared, embedding.appearance))
