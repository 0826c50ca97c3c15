"""The click-conditioned U-Net: what it reads, its files, and the refusal of wrong ones."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib.families.click_unet.config import CLICK_UNET_SIZES
from lib.families.click_unet.network import FORMAT, ClickUnet, load_click_unet
from lib.models.checkpoint_error import CheckpointError
from lib.models.config import ConfigError
from lib.models.prompts import RoiPrompts
from lib.segmenters import families
from tests.support.weights import write_click_unet

CONFIG = CLICK_UNET_SIZES["test"]


@pytest.fixture
def model() -> ClickUnet:
    torch.manual_seed(0)
    return ClickUnet(CONFIG).eval()


@pytest.fixture
def roi() -> torch.Tensor:
    return torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))


def prompts(*clicks: tuple[float, float, float], signs: tuple[bool, ...] | None = None, previous=None) -> RoiPrompts:
    return RoiPrompts(torch.tensor([clicks]), torch.tensor([signs or (True,) * len(clicks)]), previous)


def test_channels_are_image_clicks_and_previous_answer(model: ClickUnet, roi: torch.Tensor) -> None:
    seen = []
    model.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    previous = torch.randn(1, 1, 32, 32, 32)
    signs = (True, False, True)
    with torch.no_grad():
        logits = model.decode(
            model.encode(roi), prompts((3, 4, 5), (20, 21, 22), (9, 8, 7), signs=signs, previous=previous)
        )
    assert logits.shape == (1, 2, 32, 32, 32)
    image, positive, negative, fed_back = seen[0][0]
    assert torch.equal(image, roi[0, 0])
    assert positive[3, 4, 5] == positive[9, 8, 7] == negative[20, 21, 22] == 1
    assert positive[20, 21, 22] < 1e-6 and negative[3, 4, 5] < 1e-6
    torch.testing.assert_close(fed_back, (2 * previous.sigmoid() - 1)[0, 0])


@pytest.mark.parametrize("what", ["sign", "place", "previous"])
def test_the_answer_depends_on_all_of_them(model: ClickUnet, roi: torch.Tensor, what: str) -> None:
    plain = prompts((3.0, 4.0, 5.0), (20.0, 21.0, 22.0))
    other = {
        "sign": dataclasses.replace(plain, is_foreground=torch.tensor([[True, False]])),
        "place": prompts((3.0, 4.0, 5.0), (28.0, 3.0, 4.0)),
        "previous": dataclasses.replace(plain, previous=torch.randn(1, 1, 32, 32, 32)),
    }[what]
    with torch.no_grad():
        embedding = model.encode(roi)
        assert not torch.allclose(model.decode(embedding, plain), model.decode(embedding, other))


def test_small_has_the_size_of_the_yardstick() -> None:
    count = sum(p.numel() for p in ClickUnet(CLICK_UNET_SIZES["small"]).parameters())
    assert 1.0e6 < count < 1.6e6


def test_a_file_gives_back_the_model(tmp_path: Path, roi: torch.Tensor) -> None:
    path = write_click_unet(tmp_path)
    one, report = load_click_unet("test", path)
    two, again = load_click_unet("test", write_click_unet(tmp_path / "again"))
    assert len(report.loaded) == len(again.loaded) == len(one.state_dict()) and len(report.version) == 64
    with torch.no_grad():
        answers = [m.eval().decode(m.encode(roi), prompts((3.0, 4.0, 5.0))) for m in (one, two)]
    assert torch.equal(*answers)


def rewritten(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> None:
    wanted = {"format": FORMAT, "config": CONFIG.to_json(), "provenance": json.dumps({})}
    save_file(tensors, path, metadata=wanted | metadata)


WRONG = {
    "absent": lambda path, tensors: path.unlink(),
    "truncated": lambda path, tensors: path.write_bytes(path.read_bytes()[:500]),
    "text": lambda path, tensors: path.write_text("weights"),
    "other format": lambda path, tensors: rewritten(path, tensors, format="sam3d_adapter/1"),
    "other size": lambda path, tensors: rewritten(path, tensors, config=CLICK_UNET_SIZES["small"].to_json()),
    "missing key": lambda path, tensors: rewritten(path, dict(list(tensors.items())[1:])),
    "extra key": lambda path, tensors: rewritten(path, tensors | {"more": torch.zeros(1)}),
    "other shape": lambda path, tensors: rewritten(path, tensors | {next(iter(tensors)): torch.zeros(3)}),
    "not a number": lambda path, tensors: rewritten(path, {n: v * torch.nan for n, v in tensors.items()}),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_wrong_files_are_refused_by_name(tmp_path: Path, spoil) -> None:
    path = write_click_unet(tmp_path)
    spoil(path, load_file(path))
    with pytest.raises(CheckpointError, match=path.name):
        load_click_unet("test", path)


@pytest.mark.parametrize("side", [16, 40, 100])
def test_sides_that_cannot_be_halved(side: int) -> None:
    with pytest.raises(ConfigError, match="multiples of 16"):
        families()["click_unet"].check_roi("test", side)
