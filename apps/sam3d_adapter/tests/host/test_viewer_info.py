"""What viewers read of /info: what they preselect, and the arithmetic of their progress bars."""

from typing import Any

from lib.host.viewer_info import for_viewers, newest_first


def info(**parts: Any) -> dict[str, Any]:
    return {"models": {}, "trainers": {}, "train_stats": {}, "name": "x"} | parts


def test_what_can_be_used_comes_first_and_its_labels_too():
    models = {
        "colon": {"labels": {"colon tumor": 1}, "available": False},
        "ct": {"labels": {"lesion": 1}, "available": True},
        "kits": {"labels": {"kidney tumor": 1}, "available": False},
        "organs": {"labels": {"spleen": 2, "liver": 1}, "available": True},
        "other": {"labels": {"lesion": 1}},
    }
    trainers = {"colon": {"available": False}, "ct": {"available": True}}
    found = for_viewers(info(models=models, trainers=trainers))
    assert list(found["models"]) == ["ct", "organs", "other", "colon", "kits"] and found["models"] == models
    assert found["labels"] == ["lesion", "liver", "spleen", "colon tumor", "kidney tumor"]
    assert list(found["trainers"]) == ["ct", "colon"] and found["name"] == "x"


def test_a_server_without_models():
    assert for_viewers(info()) == info(labels=[])


def test_the_newest_training_that_learned_something_comes_first():
    over = {"total_epochs": 10, "total_time": "0:01:00"}
    stats = {
        "colon": {},
        "ct": {"started": "2026-02-01T10:00:00+00:00", "stage": "done", **over},
        "mr": {"started": "2026-02-03T09:00:00+00:00", "stage": "training", "total_epochs": 10},
        "pet": {"started": "2026-02-04T09:00:00+00:00", "stage": "nothing to learn from", **over},
    }
    ordered = newest_first(stats)
    assert list(ordered) == ["mr", "ct", "pet", "colon"]
    assert {name: ordered[name] for name in ("ct", "mr", "pet")} == {name: stats[name] for name in ("ct", "mr", "pet")}


def test_nothing_is_divided_by_zero_where_nobody_trained():
    """3D Slicer shows epoch / total_epochs of the first entry, or 0 where it has a total_time."""
    (first,) = newest_first({"ct": {"best_metric": 0.7}}).values()
    assert first["total_epochs"] == 1 and first["total_time"] and first["best_metric"] == 0.7
    (torn,) = newest_first({"ct": None}).values()
    assert torn["total_epochs"] == 1
