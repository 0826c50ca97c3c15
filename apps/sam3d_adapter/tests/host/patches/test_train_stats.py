"""Statistics of trainers never break /info."""

import json
from typing import Any

import pytest
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.train import TrainTask

from lib.host.patches.train_stats import finite, left_out, with_safe_stats


class Trainer(TrainTask):
    def __init__(self, stats: Any) -> None:
        super().__init__("a trainer")
        self.answer = stats

    def stats(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def __call__(self, request: Any, datastore: Any) -> None: ...


TORN = json.JSONDecodeError("torn", "{", 1)
NAN = {"best_metric": float("nan"), "epochs": [1.0, float("inf")]}


@pytest.mark.parametrize("stats", [TORN, NAN])
def test_whatever_was_read_can_be_sent(stats: Any) -> None:
    trainers = with_safe_stats({"a": Trainer(stats), "b": Trainer({"epoch": 3})})
    json.dumps(trainers["a"].stats(), allow_nan=False)
    assert trainers["b"].stats() == {"epoch": 3}


def test_only_what_json_lacks_is_replaced() -> None:
    assert finite(NAN | {"n": 3, "t": "x", "ok": 0.5}) == {
        "best_metric": None,
        "epochs": [1.0, None],
        "n": 3,
        "t": "x",
        "ok": 0.5,
    }


@pytest.mark.parametrize("stats", [TORN, NAN])
def test_the_host_still_needs_it(stats: Any) -> None:
    """Without the patch /info breaks; when this fails, the patch can go."""
    app = MONAILabelApp.__new__(MONAILabelApp)
    app.name = app.description = app.version = app.labels = "x"
    app._infers, app._strategies, app._scoring_methods = {}, {}, {}
    app._trainers = {"a": Trainer(stats)}

    class Datastore:
        def status(self) -> dict:
            return {}

    app._datastore = Datastore()
    with pytest.raises(ValueError):  # noqa: PT011 (json's two errors have no other common base)
        json.dumps(app.info(), allow_nan=False)


def test_what_trainings_left_out() -> None:
    trainers = {
        "a": Trainer({"skipped": ("one",), "notes": (), "epoch": 3}),
        "b": Trainer({"epoch": 3}),
        "c": Trainer({"notes": ["two"]}),
    }
    assert left_out(trainers) == {"a": {"skipped": ["one"]}, "c": {"notes": ["two"]}}
