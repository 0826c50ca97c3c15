"""Tasks of one size share the frozen tensors; what each has trained is its own."""

import gc
from pathlib import Path

import pytest
import torch

from lib.models.build import build_model
from lib.models.checkpoint import load_base, save_trained
from lib.models.prompts import RoiPrompts
from lib.models.trainable import frozen_names, trained_names
from lib.segmenters.contract import LoadedModel
from lib.segmenters.frozen_store import FrozenStore
from lib.serving.model_store import ModelSpec, ModelStore
from tests.support.weights import write_test_weights


@pytest.fixture
def specs(tmp_path: Path) -> list[ModelSpec]:
    """Two tasks: one base, two sets of trained parameters."""
    base, first = write_test_weights(tmp_path)
    torch.manual_seed(5)
    model = build_model("test")
    load_base(model, base)
    second = tmp_path / "second.safetensors"
    save_trained(model, second, provenance={})
    return [ModelSpec("sam3d_adapter", "test", (base, weights)) for weights in (first, second)]


def pointers(loaded: LoadedModel, names: set[str]) -> set[int]:
    return {loaded.model.model.get_parameter(name).data_ptr() for name in names}


def test_frozen_tensors_are_shared_and_trained_ones_are_not(specs: list[ModelSpec]) -> None:
    store = ModelStore()
    one, two = (store.get(spec, "cpu") for spec in specs)
    frozen, trained = frozen_names(one.model.model), trained_names(one.model.model)
    assert pointers(one, frozen) == pointers(two, frozen)
    assert not pointers(one, trained) & pointers(two, trained)
    assert one.version != two.version


def test_each_gives_what_it_gives_alone(specs: list[ModelSpec]) -> None:
    roi, clicks = torch.randn(1, 1, 32, 32, 32), torch.tensor([[[3.0, 4.0, 5.0]]])
    with torch.no_grad():
        alone = [ModelStore().get(spec, "cpu").model.model(roi, RoiPrompts(clicks)) for spec in specs]
        store = ModelStore()
        together = [store.get(spec, "cpu") for spec in specs]
        for loaded, expected in zip(together, alone, strict=True):
            assert torch.equal(loaded.model.model(roi, RoiPrompts(clicks)), expected)
    assert not torch.equal(*alone)


def test_another_base_is_not_shared(specs: list[ModelSpec], tmp_path: Path) -> None:
    base, weights = write_test_weights(tmp_path / "other", seed=9)
    store = ModelStore()
    one, other = store.get(specs[0], "cpu"), store.get(ModelSpec("sam3d_adapter", "test", (base, weights)), "cpu")
    names = frozen_names(one.model.model)
    assert not pointers(one, names) & pointers(other, names)


def test_the_base_leaves_memory_with_its_last_model() -> None:
    frozen, models = FrozenStore(), [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    frozen.share("base", {"weight": models[0].weight}, models[0])
    shared = frozen.get("base")
    assert shared is not None
    frozen.join(shared, models[1])
    assert models[0].weight is models[1].weight
    del shared, models[0]
    gc.collect()
    assert frozen.get("base") is not None
    models.clear()
    gc.collect()
    assert frozen.get("base") is None
