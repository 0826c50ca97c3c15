"""The model store: lazy, verified, shared, replaced without losing the model that serves."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from lib.families.sam3d_adapter import network as sam3d
from lib.models.checkpoint_error import CheckpointError
from lib.serving.model_store import ModelSpec, ModelStore
from tests.support.weights import write_test_weights


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    base, weights = write_test_weights(tmp_path)
    return ModelSpec("sam3d_adapter", "test", (base, weights))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Records every load."""
    calls: list[Path] = []
    real = sam3d.load_model

    def counting(*, size: str, base: Path, weights: Path):
        calls.append(weights)
        return real(size=size, base=base, weights=weights)

    monkeypatch.setattr(sam3d, "load_model", counting)
    return calls


def test_construction_loads_nothing_and_the_first_use_loads_once(spec: ModelSpec, loads: list) -> None:
    store = ModelStore()
    assert loads == []
    same_files = ModelSpec(spec.family, spec.size, tuple(map(Path, spec.files)))
    assert store.get(spec, "cpu") is store.get(same_files, "cpu")
    assert len(loads) == 1


def test_many_threads_load_once(spec: ModelSpec, loads: list) -> None:
    store = ModelStore()
    with ThreadPoolExecutor(4) as pool:
        held = list(pool.map(lambda _: store.get(spec, "cpu"), range(8)))
    assert len(loads) == 1 and all(loaded is held[0] for loaded in held)


def test_model_is_frozen_and_in_eval_mode(spec: ModelSpec) -> None:
    loaded = ModelStore().get(spec, "cpu")
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert len(loaded.version) == 64 and loaded.device == torch.device("cpu")


def test_missing_file_is_named_without_loading(spec: ModelSpec, loads: list) -> None:
    spec.weights.unlink()
    store = ModelStore()
    assert "test_weights.safetensors" in str(store.problem(spec))
    with pytest.raises(CheckpointError, match="test_weights.safetensors"):
        store.get(spec, "cpu")
    assert loads == []


def test_file_that_appears_later_is_served(spec: ModelSpec, tmp_path: Path) -> None:
    content = spec.weights.read_bytes()
    spec.weights.unlink()
    store = ModelStore()
    assert store.problem(spec)
    spec.weights.write_bytes(content)
    assert store.problem(spec) is None
    assert store.get(spec, "cpu")


def test_torn_file_is_an_error_read_once(spec: ModelSpec, loads: list) -> None:
    spec.weights.write_bytes(spec.weights.read_bytes()[:-100])
    store = ModelStore()
    assert store.problem(spec) is None  # cheap: content is verified at first use
    for _ in range(3):
        with pytest.raises(CheckpointError, match="test_weights"):
            store.get(spec, "cpu")
    assert len(loads) == 1
    assert "test_weights" in str(store.problem(spec))


def test_replaced_weights_are_picked_up(spec: ModelSpec, tmp_path: Path) -> None:
    store = ModelStore()
    before = store.get(spec, "cpu")
    # Same base: the trained parameters of another seed would be bound to another base.
    other_base, other_weights = write_test_weights(tmp_path / "other", seed=1)
    os.replace(other_base, spec.files[0])
    os.replace(other_weights, spec.weights)
    after = store.get(spec, "cpu")
    assert after.version != before.version


def test_replacement_that_does_not_verify_keeps_the_old_model(
    spec: ModelSpec, loads: list, caplog: pytest.LogCaptureFixture
) -> None:
    store = ModelStore()
    before = store.get(spec, "cpu")
    spec.weights.write_bytes(b"torn")
    assert store.get(spec, "cpu") is before and store.get(spec, "cpu") is before
    assert len(loads) == 2  # the broken file is not read at every click
    assert "Keeping model" in caplog.text
    spec.weights.unlink()
    assert store.get(spec, "cpu") is before
