"""The Dice that viewers show as accuracy is that of the version that answers."""

from pathlib import Path
from typing import Any

import pytest

from lib.learning.served_dice import ServedDice
from lib.registry.registry import Registry
from lib.registry.version import Facts
from lib.registry.versions import Versions
from tests.support.trained import write_trained
from tests.support.weights import write_test_weights


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Registry(tmp_path / "model").of("test", "test")


@pytest.fixture
def add(versions: Versions, tmp_path: Path) -> Any:
    write_test_weights(tmp_path / "weights")

    def add(seed: int, compared: dict[str, str], **dice: float) -> str:
        scores = {role: {"dice_at": {"1": {"mean": 0.1}, "10": {"mean": at}}} for role, at in dice.items()}
        weights = write_trained(tmp_path / "weights/test_base.safetensors", tmp_path / f"{seed}.safetensors", seed=seed)
        metrics = {"validation": scores, "compared_with": compared}
        return str(versions.add(weights, Facts("Dr. Roe", metrics=metrics)).id)

    return add


def test_it_is_that_of_what_is_served_and_never_that_of_a_candidate(versions: Versions, add: Any) -> None:
    dice = ServedDice(versions)
    assert dice.value() is None
    first = add(1, {"served": "shipped", "best": "shipped"}, candidate=0.8, served=0.6)
    # Refused or not decided on: the shipped version answers, and was measured to compare with.
    assert dice.value() == 0.6
    versions.publish(first, "Dr. Roe")
    assert dice.value() == 0.8
    second = add(2, {"served": first, "best": first}, candidate=0.7, served=0.75)
    assert dice.value() == 0.75
    versions.publish(second, "Dr. Roe")
    assert dice.value() == 0.7
    versions.roll_back("Dr. Roe")
    assert dice.value() == 0.75


@pytest.mark.parametrize("metrics", [{}, {"validation": []}, {"validation": {"candidate": {"dice_at": [0.5]}}}])
def test_a_version_that_was_never_measured_has_none(
    versions: Versions, add: Any, metrics: dict[str, Any], tmp_path: Path
) -> None:
    weights = write_trained(tmp_path / "weights/test_base.safetensors", tmp_path / "w.safetensors", seed=3)
    versions.publish(versions.add(weights, Facts("Dr. Roe", metrics=metrics)).id, "Dr. Roe")
    assert ServedDice(versions).value() is None
