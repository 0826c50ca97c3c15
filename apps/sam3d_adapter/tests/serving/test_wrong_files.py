"""Whatever replaces the files of a model that serves: one clear error, and the model goes on serving as it was."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.models.build import build_model
from lib.models.checkpoint import save_trained
from lib.models.checkpoint_error import CheckpointError
from lib.segmenters.contract import LoadedModel
from lib.serving.model_store import ModelSpec, ModelStore
from tests.support.published import sam_state
from tests.support.weights import write_test_weights
from tests.support.wrong_files import ANY_FILE, RAN, SAFETENSORS, rewrite

Damage = Callable[[Path], Any]


def wrong_base(path: Path) -> None:
    """Weights that were trained on another base."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        save_trained(build_model("test"), path, provenance={})


WEIGHTS: dict[str, Damage] = {
    **ANY_FILE,
    **SAFETENSORS,
    "wrong base": wrong_base,
    "base digest altered": lambda p: rewrite(p, base_sha256="0" * 64),
    "base in its place": lambda p: p.write_bytes((p.parent / "test_base.safetensors").read_bytes()),
}
BASE: dict[str, Damage] = {
    **ANY_FILE,
    **SAFETENSORS,
    "weights in its place": lambda p: p.write_bytes((p.parent / "test_weights.safetensors").read_bytes()),
    "SAM's file under our ending": lambda p: torch.save(sam_state(build_model("test")), p),
}


def spec_of(base: Path, weights: Path) -> ModelSpec:
    return ModelSpec("sam3d_adapter", "test", (base, weights))


def values(loaded: LoadedModel) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in loaded.model.parameters()]


def assert_clear(message: str, path: Path) -> None:
    """It names the file, what was found, what was expected, and is one message for people, not a trace."""
    assert str(path) in message
    assert re.search("[Ee]xpected", message) or "trained on the base" in message
    assert message.rstrip().endswith(".") and "\n" not in message and "\x1b" not in message
    assert "weights_only" not in message  # advice of a library that would make things unsafe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "damage"),
    [pytest.param("weights", d, id=f"weights: {name}") for name, d in WEIGHTS.items()]
    + [pytest.param("base", d, id=f"base: {name}") for name, d in BASE.items()],
)
def test_wrong_file_is_refused_and_the_serving_model_stays(
    which: str, damage: Damage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base, weights = write_test_weights(tmp_path)
    path = {"base": base, "weights": weights}[which]
    spec, store = spec_of(base, weights), ModelStore()
    serving = store.get(spec, "cpu")
    before, right = values(serving), path.read_bytes()

    damage(path)
    with caplog.at_level(logging.WARNING):
        assert store.get(spec, "cpu") is serving and store.get(spec, "cpu") is serving
    assert all(map(torch.equal, values(serving), before))
    assert not RAN.exists()

    if path.is_file():
        # Said once, not at every click; and the same to who starts with the wrong file.
        assert [r.levelname for r in caplog.records] == ["WARNING"] and "Keeping model" in caplog.text
        with pytest.raises(CheckpointError) as caught:
            ModelStore().get(spec, "cpu")
        assert_clear(str(caught.value), path)
        assert any(str(caught.value) in message for message in caplog.messages)
        path.unlink()
    else:
        path.rmdir()

    path.write_bytes(right)
    assert store.get(spec, "cpu").version == serving.version
    assert all(map(torch.equal, values(store.get(spec, "cpu")), before))


def test_file_that_is_being_written_is_served_when_it_is_whole(tmp_path: Path) -> None:
    base, weights = write_test_weights(tmp_path)
    content = weights.read_bytes()
    spec, store = spec_of(base, weights), ModelStore()
    with weights.open("wb") as file:
        for start in range(0, len(content), len(content) // 4 + 1):
            file.write(content[start : start + len(content) // 4 + 1])
            file.flush()
            if file.tell() < len(content):
                with pytest.raises(CheckpointError):
                    store.get(spec, "cpu")
    assert store.get(spec, "cpu").version


def test_both_files_swapped(tmp_path: Path) -> None:
    base, weights = write_test_weights(tmp_path)
    with pytest.raises(CheckpointError, match="swapped"):
        ModelStore().get(spec_of(weights, base), "cpu")
