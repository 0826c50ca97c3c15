"""Wrong checkpoints and wrong bases: one clear message, nothing written, nothing executed."""

import logging
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.conversion_site import Site
from tests.support.published import reference_state, trained_model, write_sam_file
from tests.support.wrong_files import ANY_FILE, RAN, SAFETENSORS, Hostile

Change = Callable[[dict[str, Any]], Any]


def set_first(part: dict[str, torch.Tensor], value: float) -> None:
    part["depth_embed"].view(-1)[0] = value


def replace(part: dict[str, Any], name: str, value: Any) -> None:
    part[name] = value(part[name]) if callable(value) else value


# What a checkpoint of the right form can have wrong, and a word of what must be said about it.
CHECKPOINTS: dict[str, tuple[Change, str]] = {
    "no encoder": (lambda s: s.pop("encoder_dict"), "encoder_dict"),
    "no decoder": (lambda s: s.pop("decoder_dict"), "decoder_dict"),
    "no prompt encoders": (lambda s: s.update(feature_dict=[]), "feature_dict"),
    "prompt encoders are no list": (lambda s: s.update(feature_dict=s["feature_dict"][0]), "feature_dict"),
    "prompt encoders are no dictionaries": (lambda s: s.update(feature_dict=[1, 2, 3, 4]), "feature_dict"),
    "missing key": (lambda s: s["encoder_dict"].pop("depth_embed"), "1 keys missing.*depth_embed"),
    "extra key": (lambda s: s["encoder_dict"].update(foreign=torch.zeros(1)), "1 unexpected.*foreign"),
    "other size": (lambda s: replace(s["encoder_dict"], "pos_embed", torch.zeros(1, 64, 64, 768)), "shape"),
    "NaN in what trains": (lambda s: set_first(s["encoder_dict"], float("nan")), "not finite"),
    "infinite in what trains": (lambda s: set_first(s["encoder_dict"], float("-inf")), "not finite"),
    "NaN in the frozen part": (
        lambda s: replace(s["encoder_dict"], "pos_embed", lambda t: t * float("nan")), "not finite"
    ),
    "integers": (lambda s: replace(s["encoder_dict"], "depth_embed", lambda t: t.int()), "torch.int32"),
    "double": (lambda s: replace(s["encoder_dict"], "depth_embed", lambda t: t.double()), "torch.float64"),
    "sparse": (lambda s: replace(s["encoder_dict"], "depth_embed", lambda t: t.to_sparse()), "sparse"),
    "number for a tensor": (lambda s: replace(s["encoder_dict"], "depth_embed", 1.0), "float"),
    "numpy scalar for a tensor": (lambda s: replace(s["encoder_dict"], "depth_embed", np.float64(1)), "float64"),
    "a name that is no text": (lambda s: s["encoder_dict"].update({3: torch.zeros(1)}), "encoder_dict.3"),
    "the same parameter twice": (
        lambda s: s["decoder_dict"].update({"classifier.0.weight": s["decoder_dict"]["cls.0.weight"]}),
        "same parameter",
    ),
    "frozen part altered": (
        lambda s: replace(s["encoder_dict"], "pos_embed", lambda t: t + 0.5), "another base.*0.5|by 0.5"
    ),
    "scale altered": (lambda s: replace(s["encoder_dict"], "blocks.0.attn.lr", lambda t: t * 2), "attn.lr"),
    "hostile object beside the weights": (lambda s: s.update(note=Hostile()), "nothing in the file was executed"),
    "numpy array": (lambda s: s.update(note=np.zeros(3)), "nothing in the file was executed"),
}  # fmt: skip


def fails(site: Site, caplog: pytest.LogCaptureFixture, *more: object) -> str:
    """The one message of a run that fails and leaves nothing behind."""
    before = sorted(str(p) for p in site.app.rglob("*") if p.is_file())
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert site.run(*more) == 1
    assert sorted(str(p) for p in site.app.rglob("*") if p.is_file()) == before
    assert not RAN.exists()
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelname == "ERROR" and record.exc_info is None
    assert "\n" not in message and "\x1b" not in message and "weights_only" not in message
    assert re.search("[Ee]xpected", message) and message.endswith(".")
    return message


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_of_the_right_form(name: str, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    change, words = CHECKPOINTS[name]
    state = reference_state(site.model)
    change(state)
    site.save(state)
    message = fails(site, caplog, "--sam", site.sam)
    assert str(site.checkpoint) in message and re.search(words, message)


@pytest.mark.parametrize("name", ANY_FILE)
def test_checkpoint_of_another_form(name: str, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    ANY_FILE[name](site.checkpoint)
    assert str(site.checkpoint) in fails(site, caplog, "--sam", site.sam)


def test_sams_file_as_checkpoint(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.checkpoint.write_bytes(site.sam.read_bytes())
    assert "start a base" in fails(site, caplog, "--sam", site.sam)


def test_checkpoint_as_sams_file(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert "expected SAM's own sam_test.pth" in fails(site, caplog, "--sam", site.checkpoint)


def test_one_flipped_bit_of_a_weight(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(site.checkpoint.read_bytes())
    value = site.model.mask_decoder.classifier[0].weight.detach().numpy().tobytes()
    content[content.index(value)] ^= 1
    site.checkpoint.write_bytes(content)
    assert "checksum" in fails(site, caplog, "--sam", site.sam)


def test_trained_on_another_base(site: Site, caplog: pytest.LogCaptureFixture, tmp_path) -> None:
    write_sam_file(tmp_path / "other.pth", seed=1)
    site.save(reference_state(trained_model(tmp_path / "other.pth")))
    message = fails(site, caplog, "--sam", site.sam)
    assert "another base" in message and "sam_test.pth" in message


@pytest.mark.slow
@pytest.mark.parametrize("name", {**ANY_FILE, **SAFETENSORS})
def test_base_that_is_there_and_wrong(name: str, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert site.run("--sam", site.sam) == 0
    {**ANY_FILE, **SAFETENSORS}[name](site.base)
    site.preset(weights="model/second.safetensors")
    message = fails(site, caplog, "--sam", site.sam)
    assert str(site.base) in message and "remove" in message


def test_old_form_of_torch_files_is_read(site: Site) -> None:
    torch.save(reference_state(site.model), site.checkpoint, _use_new_zipfile_serialization=False)
    assert site.run("--sam", site.sam) == 0
