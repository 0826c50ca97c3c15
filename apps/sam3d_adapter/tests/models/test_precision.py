"""The number type follows the wish, else the hardware."""

import pytest
import torch

from lib.models.precision import resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision, dtype", [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_wish_is_followed(precision, dtype):
    assert resolve_precision(precision, CPU) is dtype


@pytest.mark.parametrize(
    "capabilities, dtype",
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx2": True, "amx_bf16": False}, torch.float32),
    ],
)
def test_the_processor_decides_otherwise(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", CPU) is dtype


def test_an_older_torch_computes_in_fp32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", CPU) is torch.float32


def test_an_unknown_wish_names_the_choices():
    with pytest.raises(ValueError, match="auto, fp32, bf16"):
        resolve_precision("fp8", CPU)
