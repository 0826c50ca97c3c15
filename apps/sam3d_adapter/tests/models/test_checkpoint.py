"""Every key loaded, created or ignored for a reason; wrong files refused; nothing unpickled."""

import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lib.models.build import build_model
from lib.models.checkpoint import (
    CheckpointError,
    base_digest,
    file_sha256,
    load_model,
    load_trained,
    save_base,
    save_trained,
)
from lib.models.prompts import RoiPrompts
from lib.models.sam_checkpoint import load_sam_checkpoint
from lib.models.trainable import frozen_names, trained_names
from tests.models.conftest import as_served, randomised
from tests.support.published import sam_state


@pytest.fixture
def files(tmp_path):
    """A model and its two files."""
    model = randomised("test")
    base, weights = tmp_path / "base.safetensors", tmp_path / "weights.safetensors"
    save_base(model, base)
    save_trained(model, weights, provenance={"data": "none", "licence": "Apache-2.0"})
    return model, base, weights


def test_saved_model_comes_back_bit_for_bit(files, roi, clicks_dhw):
    model, base, weights = files
    again, report = load_model(size="test", base=base, weights=weights)
    with torch.no_grad():
        assert again(roi, RoiPrompts(clicks_dhw)).equal(as_served(model)(roi, RoiPrompts(clicks_dhw)))
    assert set(report.loaded) == {n for n, _ in model.named_parameters()}
    assert report.version == file_sha256(weights)
    assert report.provenance == {"data": "none", "licence": "Apache-2.0"}
    assert not again.training


def test_weights_hold_the_trained_set_alone(files):
    model, base, weights = files
    assert load_file(weights).keys() == trained_names(model)
    assert load_file(base).keys() == frozen_names(model)


def test_half_precision_base_is_rounded_in_memory_too(tmp_path):
    model = randomised("test")
    base, weights = tmp_path / "b.safetensors", tmp_path / "w.safetensors"
    save_base(model, base, dtype=torch.float16)
    save_trained(model, weights, provenance={}, dtype=torch.float16)
    again, _ = load_model(size="test", base=base, weights=weights)
    assert base_digest(again) == base_digest(model)


def test_another_base_is_refused(files, tmp_path):
    _, _, weights = files
    other = build_model("test")
    with pytest.raises(CheckpointError, match="trained on the base"):
        load_trained(other, weights)


def rewrite(path, tensors=None, metadata=None):
    with safe_open(path, framework="pt") as file:
        stored = file.metadata()
    save_file(load_file(path) if tensors is None else tensors, path, metadata=stored | (metadata or {}))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def drop_one(path):
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[0])
    rewrite(path, tensors)


def add_one(path):
    rewrite(path, load_file(path) | {"foreign": torch.zeros(1)})


def reshape_one(path):
    tensors = load_file(path)
    tensors["mask_decoder.classifier.3.weight"] = torch.zeros(2, 8, 1, 1, 1)
    rewrite(path, tensors)


def spoil_one(path):
    tensors = load_file(path)
    tensors["mask_decoder.classifier.3.weight"][0, 0, 0, 0, 0] = float("nan")
    rewrite(path, tensors)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda p: p.unlink(), "no such file"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (truncate, "not a readable safetensors"),
        (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "not a readable safetensors"),
        (drop_one, "1 keys missing"),
        (add_one, "1 unexpected"),
        (reshape_one, "has shape"),
        (spoil_one, "not finite"),
        (lambda p: rewrite(p, metadata={"size": "tiny"}), "expected .*'size': 'test'"),
        (lambda p: rewrite(p, metadata={"kind": "base"}), "'kind': 'trained'"),
        (lambda p: rewrite(p, metadata={"format": "sam3d_adapter/0"}), "sam3d_adapter/1"),
        (lambda p: rewrite(p, metadata={"config": "{}"}), "other numbers"),
        (lambda p: rewrite(p, metadata={"base_sha256": "0" * 64}), "trained on the base 0000"),
    ],
    ids=range(13),
)
def test_wrong_weights_are_refused_with_the_reason(files, damage, message):
    _, base, weights = files
    damage(weights)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(size="test", base=base, weights=weights)
    assert str(weights) in str(caught.value)


def test_sam_starts_the_encoder_and_every_key_is_accounted_for(tmp_path):
    model = build_model("test")
    state = sam_state(model)
    torch.save(state, tmp_path / "sam.pth")
    report = load_sam_checkpoint(model, tmp_path / "sam.pth")
    assert set(report.loaded) | set(report.created) == {n for n, _ in model.named_parameters()}
    assert set(report.loaded) | set(report.ignored) == set(state)
    attn = model.image_encoder.blocks[1].attn
    torch.testing.assert_close(attn.rel_pos_d, 0.5 * (attn.rel_pos_h + attn.rel_pos_w))
    assert attn.rel_pos_scale == 1
    torch.testing.assert_close(attn.qkv.weight, state["image_encoder.blocks.1.attn.qkv.weight"])
    assert all(report.created.values()) and all(report.ignored.values())


def test_sams_own_file_serves_as_base(tmp_path, roi, clicks_dhw):
    model = build_model("test")
    base, weights = tmp_path / "sam.pth", tmp_path / "weights.safetensors"
    torch.save(sam_state(model), base)
    load_sam_checkpoint(model, base)
    save_trained(model, weights, provenance={})
    again, report = load_model(size="test", base=base, weights=weights)
    assert set(report.loaded) | set(report.created) == {n for n, _ in model.named_parameters()}
    assert set(report.created) <= frozen_names(model) and all(report.created.values())
    with torch.no_grad():
        assert again(roi, RoiPrompts(clicks_dhw)).equal(as_served(model)(roi, RoiPrompts(clicks_dhw)))


def test_same_values_give_the_same_bytes(files, tmp_path):
    model, base, weights = files
    save_base(model, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == base.read_bytes()
    save_trained(model, tmp_path / "again.safetensors", provenance={"data": "none", "licence": "Apache-2.0"})
    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()


class Hostile:
    """Would run code when unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code from the file was run",))


@pytest.mark.parametrize("content", [{"a": Hostile()}, [1, 2], {"foreign.weight": torch.zeros(1)}, {}])
def test_files_that_are_not_sams_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "sam.pth")
    with pytest.raises(CheckpointError):
        load_sam_checkpoint(build_model("test"), tmp_path / "sam.pth")
