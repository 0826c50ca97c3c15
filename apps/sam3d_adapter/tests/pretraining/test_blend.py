"""The mean of two pairs of weights: what is in it, and that it is served like any other pair."""

import sys
from pathlib import Path

import pytest
import torch

from lib.models.checkpoint import load_model
from lib.pretraining.blend import blend, main
from tests.support.weights import write_test_weights

Pair = tuple[Path, Path]


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Pair, Pair, Pair]:
    """Two pairs, and where to write a third."""
    for seed, name in enumerate(("former", "further")):
        (tmp_path / name).mkdir()
        write_test_weights(tmp_path / name, seed=seed)
    (tmp_path / "made").mkdir()
    former, further, made = (
        (tmp_path / name / "test_base.safetensors", tmp_path / name / "test_weights.safetensors")
        for name in ("former", "further", "made")
    )
    return former, further, made


def parameters(pair: Pair) -> dict[str, torch.Tensor]:
    return dict(load_model(size="test", base=pair[0], weights=pair[1])[0].named_parameters())


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_every_parameter_is_the_mean(pairs: tuple[Pair, Pair, Pair], share: float) -> None:
    former, further, made = pairs
    blend(former, further, share, made, size="test")
    old, new, found = (parameters(pair) for pair in pairs)
    assert any(not torch.equal(old[name], new[name]) for name in old)
    for name, value in found.items():
        torch.testing.assert_close(value, (1 - share) * old[name] + share * new[name], rtol=1e-3, atol=1e-4)


def test_the_file_says_what_it_was_made_of(pairs: tuple[Pair, Pair, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    former, further, made = pairs
    words = ["--former", *former, "--further", *further, "--out", *made, "--share", "0.7", "--size", "test"]
    monkeypatch.setattr(sys, "argv", ["blend", *map(str, words)])
    main()
    _, report = load_model(size="test", base=made[0], weights=made[1])
    said = report.provenance["blended"]
    assert isinstance(said, dict) and said["share"] == 0.7
    _, of_former = load_model(size="test", base=former[0], weights=former[1])
    assert said["former"]["version"] == of_former.version


def test_a_share_beyond_one_is_refused(pairs: tuple[Pair, Pair, Pair]) -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        blend(pairs[0], pairs[1], 1.5, pairs[2], size="test")
    assert not pairs[2][1].exists()
