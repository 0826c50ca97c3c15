"""Whether a round would be the same as the one before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lib.learning import up_to_date as repeated
from lib.learning.run import DECIDING, DONE, open_run
from lib.learning.settings import TrainSettings
from lib.learning.up_to_date import nothing_new, wanted
from lib.registry.registry import Registry
from lib.registry.version import SHIPPED, Facts
from lib.registry.versions import Versions

FACTS = {"parent": "shipped", "train": ["a", "b"], "validation": ["c"], "max_epochs": 3, "seed": 1}


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Registry(tmp_path / "learning").of("ct", "tiny")


def add(versions: Versions) -> str:
    path = versions.folder.parents[2] / "weights.safetensors"
    save_file({"a": np.arange(8.0) + len(versions.ids())}, path)
    return versions.add(path, Facts("training")).id


def finish(versions: Versions, settings: TrainSettings, facts: dict[str, Any] = FACTS, *, is_compared: bool) -> str:
    """A round of these facts; the version it made."""
    run, _ = open_run(versions.folder / "runs", facts)
    state = versions.state()
    measured = {"served": state.served, "best": state.best or SHIPPED} if is_compared else {}
    run.advance(DECIDING, measured=measured)
    version = add(versions)
    run.advance(DONE, version=version, published=False, wanted=wanted(settings))
    return version


@pytest.mark.parametrize("is_compared", [True, False])
def test_the_same_again_is_told_with_its_version(versions: Versions, is_compared: bool) -> None:
    settings = TrainSettings(max_minutes=2.5)
    assert nothing_new(versions, FACTS, settings) is None, "there was none"
    made = finish(versions, settings, is_compared=is_compared)
    for asked in (settings, TrainSettings(max_minutes=2.5, device="cuda:0", started_by="me", tracking="mlflow")):
        assert made in str(nothing_new(versions, dict(FACTS), asked))
    versions.refuse(made, ["no"])
    assert nothing_new(versions, FACTS, settings)


@pytest.mark.parametrize(
    "facts",
    [{"train": ["a"]}, {"train": ["a", "d"]}, {"validation": []}, {"parent": "v0001-00000000"}, {"seed": 2}],
    ids=str,
)
def test_other_facts_are_another_round(versions: Versions, facts: dict[str, Any]) -> None:
    finish(versions, TrainSettings(), is_compared=True)
    assert nothing_new(versions, FACTS | facts, TrainSettings()) is None


@pytest.mark.parametrize("change", [{"publish": False}, {"max_minutes": 5.0}, {"fresh": True}], ids=str)
def test_other_wishes_are_another_round(versions: Versions, change: dict[str, Any]) -> None:
    finish(versions, TrainSettings(), is_compared=True)
    assert nothing_new(versions, FACTS, TrainSettings(**change)) is None


def test_another_release_of_the_app_may_do_better(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(versions, TrainSettings(), is_compared=True)
    monkeypatch.setattr(repeated, "__version__", "99.0")
    assert nothing_new(versions, FACTS, TrainSettings()) is None


def test_beside_other_versions_the_verdict_may_be_another(versions: Versions) -> None:
    made = finish(versions, TrainSettings(), is_compared=True)
    other = add(versions)
    versions.publish(other, "me")
    assert nothing_new(versions, FACTS, TrainSettings()) is None
    versions.publish(SHIPPED, "me")
    assert nothing_new(versions, FACTS, TrainSettings())
    versions.publish(other, "me", is_best=True)
    versions.publish(SHIPPED, "me")
    assert nothing_new(versions, FACTS, TrainSettings()) is None
    versions.publish(made, "me")
    assert nothing_new(versions, FACTS, TrainSettings()), "it is served already"


def test_without_a_validation_patient_there_is_no_other_verdict(versions: Versions) -> None:
    finish(versions, TrainSettings(), is_compared=False)
    versions.publish(add(versions), "me", is_best=True)
    assert nothing_new(versions, FACTS, TrainSettings())


def test_a_version_that_is_gone_is_made_again(versions: Versions) -> None:
    made = finish(versions, TrainSettings(), is_compared=True)
    assert versions.prune(0) == [made]
    assert nothing_new(versions, FACTS, TrainSettings()) is None


def test_a_stopped_round_is_gone_on_with(versions: Versions) -> None:
    finish(versions, TrainSettings(), is_compared=True)
    # Names of runs begin with the second; in the same one their order is drawn.
    (done,) = (versions.folder / "runs").iterdir()
    done.rename(done.with_name("20200101T000000-abcdef"))
    open_run(versions.folder / "runs", FACTS, fresh=True)
    assert nothing_new(versions, FACTS, TrainSettings()) is None


def test_a_round_of_an_earlier_release_is_no_measure(versions: Versions) -> None:
    run, _ = open_run(versions.folder / "runs", FACTS)
    run.advance(DONE, version=add(versions), published=False)
    assert nothing_new(versions, FACTS, TrainSettings()) is None
